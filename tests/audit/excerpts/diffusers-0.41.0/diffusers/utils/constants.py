# Excerpt of diffusers 0.41.0, utils/constants.py, copied for the tests: lines that do not decide anything are left out.
# Copyright 2025 The HuggingFace Inc. team. All rights reserved.
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

import importlib

import os

from huggingface_hub.constants import HF_HOME

from packaging import version

from ..dependency_versions_check import dep_version_check

from .import_utils import ENV_VARS_TRUE_VALUES, is_peft_available, is_transformers_available

DIFFUSERS_DISABLE_REMOTE_CODE = os.getenv("DIFFUSERS_DISABLE_REMOTE_CODE", "false").upper() in ENV_VARS_TRUE_VALUES

DIFFUSERS_TRUST_REMOTE_KERNELS = (
    os.getenv("DIFFUSERS_TRUST_REMOTE_KERNELS", "false").upper() in ENV_VARS_TRUE_VALUES
    and not DIFFUSERS_DISABLE_REMOTE_CODE
)
