# recgen with everything it needs:
#
#   docker build -t recgen:cuda .
#   docker build -t recgen --build-arg TORCH_INDEX=URL .     URL: the CPU index that PyTorch's own "Get started" page names
#   docker run --rm -v "$PWD:/work" recgen run --config demo
#   docker run --rm --gpus all -v "$PWD:/work" -v ~/.cache/huggingface:/root/.cache/huggingface recgen:cuda run --config mine.yaml
#
# The CUDA image has no CUDA of its own: PyTorch's wheel brings the libraries, the host the driver (NVIDIA container toolkit).
FROM python:3.11-slim

# Where torch is installed from; empty takes the build that pip finds by itself, which on Linux is the one for CUDA.
ARG TORCH_INDEX=

WORKDIR /opt/recgen
COPY constraints.txt ./
RUN version="$(sed -n 's/^torch==//p' constraints.txt)" && vision="$(sed -n 's/^torchvision==//p' constraints.txt)" \
 && pip install --no-cache-dir ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "torch==$version" "torchvision==$vision"
COPY setup.py README.md LICENSE pyproject.toml ./
COPY recgen recgen
COPY generators generators
COPY ranking_models ranking_models
COPY recbole_configs recbole_configs
# faiss-cpu comes with recgen. faiss-gpu must never lie beside it: both are the one package `faiss`, and the later one overwrites
# half of the first. On 10 million vectors the CPU's takes milliseconds a query, so that the CUDA image keeps it too.
RUN pip install --no-cache-dir -c constraints.txt '.[tune,photos]' && recgen doctor

WORKDIR /work
ENTRYPOINT ["recgen"]
CMD ["doctor"]
