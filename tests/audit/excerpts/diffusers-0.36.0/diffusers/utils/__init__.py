# Excerpt of diffusers 0.36.0, utils/__init__.py, copied for the tests: lines that do not decide anything are left out.
# Copyright The HuggingFace Team. All rights reserved.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

from .import_utils import (
    is_accelerate_available,
    is_accelerate_version,
    is_bitsandbytes_available,
    is_bitsandbytes_version,
    is_gguf_available,
    is_gguf_version,
    is_kernels_available,
    is_optimum_quanto_available,
    is_optimum_quanto_version,
    is_torch_available,
    is_torch_version,
    is_torchao_available,
    is_torchao_version,
)
