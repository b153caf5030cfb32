# Excerpt of diffusers 0.41.0, quantizers/auto.py, copied for the tests: lines that do not decide anything are left out.
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

from .autoround import AutoRoundQuantizer

from .bitsandbytes import BnB4BitDiffusersQuantizer, BnB8BitDiffusersQuantizer

from .gguf import GGUFQuantizer

from .modelopt import NVIDIAModelOptQuantizer

from .nunchaku import NunchakuLiteQuantizer

from .quantization_config import (
    AutoRoundConfig,
    BitsAndBytesConfig,
    GGUFQuantizationConfig,
    NunchakuLiteQuantizationConfig,
    NVIDIAModelOptConfig,
    QuantizationConfigMixin,
    QuantizationMethod,
    QuantoConfig,
    SDNQConfig,
    TorchAoConfig,
)

from .quanto import QuantoQuantizer

from .sdnq import SDNQQuantizer

from .torchao import TorchAoHfQuantizer

AUTO_QUANTIZER_MAPPING = {
    "bitsandbytes_4bit": BnB4BitDiffusersQuantizer,
    "bitsandbytes_8bit": BnB8BitDiffusersQuantizer,
    "gguf": GGUFQuantizer,
    "quanto": QuantoQuantizer,
    "torchao": TorchAoHfQuantizer,
    "modelopt": NVIDIAModelOptQuantizer,
    "auto-round": AutoRoundQuantizer,
    "nunchaku_lite": NunchakuLiteQuantizer,
    "sdnq": SDNQQuantizer,
}

AUTO_QUANTIZATION_CONFIG_MAPPING = {
    "bitsandbytes_4bit": BitsAndBytesConfig,
    "bitsandbytes_8bit": BitsAndBytesConfig,
    "gguf": GGUFQuantizationConfig,
    "quanto": QuantoConfig,
    "torchao": TorchAoConfig,
    "modelopt": NVIDIAModelOptConfig,
    "auto-round": AutoRoundConfig,
    "nunchaku_lite": NunchakuLiteQuantizationConfig,
    "sdnq": SDNQConfig,
}
