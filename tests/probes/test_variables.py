from __future__ import annotations

import secrets
import sys
import types

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envguard.probes.variables import RECORDED, loaded_modules, looks_like_secret, variables


def test_a_set_variable_is_recorded_and_an_unset_one_is_null() -> None:
    observed = variables({"USE_TORCH": "0", "HOME": "/home/x"}, frozenset({"USE_TORCH", "CUDA_HOME"}))
    assert observed.value == {"CUDA_HOME": None, "USE_TORCH": "0"}
    assert observed.unreadable == {}


def test_an_empty_variable_is_not_an_unset_one() -> None:
    assert variables({"CUDA_VISIBLE_DEVICES": ""}, frozenset({"CUDA_VISIBLE_DEVICES"})).value == {
        "CUDA_VISIBLE_DEVICES": ""
    }


def test_without_names_our_whole_list_is_recorded_and_nothing_else() -> None:
    observed = variables({"AWS_SECRET_ACCESS_KEY": "x", "HF_TOKEN": "y", "BNB_CUDA_VERSION": "124"}, None)
    assert set(observed.value) == RECORDED
    assert observed.value["BNB_CUDA_VERSION"] == "124"


def test_a_variable_that_is_not_on_our_list_is_never_recorded() -> None:
    observed = variables({"HF_TOKEN": "short"}, frozenset({"HF_TOKEN"}))
    assert observed.value == {}
    assert observed.unreadable == {"/environment_variables/HF_TOKEN": "withheld: not a variable that envguard records"}


def test_nothing_on_our_list_names_a_secret() -> None:
    assert not [name for name in RECORDED if any(word in name for word in ("TOKEN", "KEY", "SECRET", "PASS", "AUTH"))]


def test_a_value_that_looks_like_a_secret_is_withheld_under_any_name() -> None:
    observed = variables({"CUDA_HOME": "hf_" + "Ab1" * 11}, frozenset({"CUDA_HOME"}))
    assert observed.value == {}
    assert observed.unreadable == {"/environment_variables/CUDA_HOME": "withheld: looks like a secret"}


def test_a_value_that_is_no_text_is_unreadable() -> None:
    observed = variables({"CUDA_HOME": "/opt/\udcff"}, frozenset({"CUDA_HOME"}))
    assert observed.value == {}
    assert "not text" in observed.unreadable["/environment_variables/CUDA_HOME"]


@pytest.mark.parametrize(
    "value",
    [
        "https://user:password@pypi.example/simple",
        "https://0a1b2c@pypi.example/simple",
        "/usr/lib:https://token@host/",
        "hf_abcdefghijklmnopqrstuvwxyzABCDEFGH",
        "sk-proj-abcdefghijklmnop",
        "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
        "AKIAIOSFODNN7EXAMPLE",
        "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.c2ln",
        "api_key=1234567",
        "PASSWORD=hunter22",
        "-----BEGIN PRIVATE KEY-----",
        "d41d8cd98f00b204e9800998ecf8427e",
        "/opt/x:d41d8cd98f00b204e9800998ecf8427e",
        "/srv/aB3dE5fG7hJ9kL1mN3pQ5rS7/lib",
    ],
)
def test_secrets_are_seen(value: str) -> None:
    assert looks_like_secret(value)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "0,1,2,3",
        "-1",
        "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6",
        "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6,GPU-fef8089b-1820-abfc-e83e-94318197576e",
        "MIG-GPU-8932f937-d72c-4106-c12f-20bd9faed9f6/1/2",
        "MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f",
        "level_zero:gpu;opencl:*",
        "7.0;7.5;8.0;8.6;8.9;9.0;10.0;12.0+PTX",
        "/usr/local/cuda-12.4/lib64:/usr/lib/x86_64-linux-gnu:/opt/conda/envs/my_env2/lib",
        "/nix/store/p9s1mn7j1jvk3ki9a3lwqf0gmcb12m5r-cuda_cudart-12.2.140/lib",
        "/opt/spack/linux-ubuntu22.04-zen3/gcc-11.4.0/cuda-12.1.1-h3sxlkrtsm4kcbu7yqyadd6pmyvkxpqz/lib64",
        r"C:\Program Files\NVIDIA GPU Computing Toolkit\CUDA\v12.4",
        "/opt/MyCompanyDriverRelease2024StableForEveryone/lib",
        "/var/lib/docker/overlay2/1f5f4c7e4b1f7a2f0b6d3f1f6a3c8e7d9b0a1c2d3e4f5061728394a5b6c7d8e9/merged/usr/lib",
        "compute,utility,graphics,video",
    ],
)
def test_device_ids_paths_and_lists_are_no_secrets(value: str) -> None:
    assert not looks_like_secret(value)


@given(st.integers(min_value=0, max_value=1 << 200), st.sampled_from(["", "/usr/lib:", "a,"]))
def test_a_long_random_value_is_never_recorded(number: int, before: str) -> None:
    token = f"{number:050x}"
    if len(set(token[:32])) > 6 and not token.isdigit() and not token.isalpha():
        assert looks_like_secret(before + token)


def test_real_tokens_are_seen() -> None:
    assert all(looks_like_secret(secrets.token_hex(24)) for _ in range(50))


@given(st.text(max_size=200))
def test_any_value_gets_an_answer(value: str) -> None:
    assert looks_like_secret(value) in (True, False)


def test_what_is_loaded_is_read_from_the_module_itself() -> None:
    found = loaded_modules({"pytest", "nothing_of_this_name"}).value
    assert found == {"pytest": {"version": pytest.__version__, "file": pytest.__file__}}


def test_a_lazy_module_is_not_made_to_import(monkeypatch: pytest.MonkeyPatch) -> None:
    class Lazy(types.ModuleType):
        def __getattr__(self, name: str) -> object:
            raise AssertionError(f"asked for {name}")

    monkeypatch.setitem(sys.modules, "lazy_one", Lazy("lazy_one"))
    monkeypatch.setitem(sys.modules, "blocked_one", None)
    assert loaded_modules(["lazy_one", "blocked_one"]).value == {"lazy_one": {"version": None, "file": None}}


def test_a_version_that_is_no_text_is_null(monkeypatch: pytest.MonkeyPatch) -> None:
    class Version(str):
        __slots__ = ()

    odd = types.ModuleType("odd_one")
    odd.__version__ = (1, 2)  # type: ignore[attr-defined]
    torch_like = types.ModuleType("torch_like")
    torch_like.__version__ = Version("2.6.0+cu124")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "odd_one", odd)
    monkeypatch.setitem(sys.modules, "torch_like", torch_like)
    found = loaded_modules(["odd_one", "torch_like"]).value
    assert found["odd_one"]["version"] is None
    assert type(found["torch_like"]["version"]) is str
