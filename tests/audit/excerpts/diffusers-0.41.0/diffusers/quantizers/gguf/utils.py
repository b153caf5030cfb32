# Excerpt of diffusers 0.41.0, quantizers/gguf/utils.py, copied for the tests: lines that do not decide anything are left out.
# Copyright 2025 The HuggingFace Team and City96. All rights reserved.
# #
# # Licensed under the Apache License, Version 2.0 (the "License");
# # you may not use this file except in compliance with the License.
# # You may obtain a copy of the License at
# #
# #     http://www.apache.org/licenses/LICENSE-2.0
# #
# # Unless required by applicable law or agreed to in writing, software
# # distributed under the License is distributed on an "AS IS" BASIS,
# # WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# # See the License for the specific language governing permissions and
# # limitations under the License.

import inspect

import os

from contextlib import nullcontext

import gguf

import torch

import torch.nn as nn

from ... import __version__

from ...utils import is_accelerate_available, is_kernels_available, is_kernels_version

from ...utils.constants import DIFFUSERS_TRUST_REMOTE_KERNELS

if is_accelerate_available():
    import accelerate
    from accelerate import init_empty_weights
    from accelerate.hooks import add_hook_to_module, remove_hook_from_module

can_use_cuda_kernels = (
    os.getenv("DIFFUSERS_GGUF_CUDA_KERNELS", "false").lower() in ["1", "true", "yes"]
    and torch.cuda.is_available()
    and torch.cuda.get_device_capability()[0] >= 7
)

if can_use_cuda_kernels and is_kernels_available():
    from kernels import get_kernel

    if not DIFFUSERS_TRUST_REMOTE_KERNELS:
        raise ValueError(
            "`Isotr0py/ggml` is not published by a trusted kernel publisher on the Hub, so loading it downloads "
            "and executes remote code. Set `DIFFUSERS_TRUST_REMOTE_KERNELS=true` to allow it, or set "
            "`DIFFUSERS_GGUF_CUDA_KERNELS=false` to run without the CUDA kernels."
        )
    # `kernels<0.14.0` has no `trust_remote_code` argument and executes the downloaded code unconditionally.
    trust_kwargs = {"trust_remote_code": True} if is_kernels_version(">=", "0.14.0") else {}
    ops = get_kernel("Isotr0py/ggml", user_agent={"diffusers": __version__}, **trust_kwargs)
else:
    ops = None

UNQUANTIZED_TYPES = {gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.F16, gguf.GGMLQuantizationType.BF16}
