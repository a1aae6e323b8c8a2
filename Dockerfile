# recgen with everything it needs:
#
#   docker build -t recgen:cuda .
#   docker build -t recgen --build-arg TORCH_INDEX=URL .     URL: the CPU index that PyTorch's own "Get started" page names
#   docker run --rm -u "$(id -u):$(id -g)" -v "$PWD:/work" recgen run --config demo
#   docker run --rm -u "$(id -u):$(id -g)" --gpus all -v "$PWD:/work" -v ~/.cache/huggingface:/huggingface recgen:cuda run --config mine.yaml
#
# Any user will do, and `--read-only --tmpfs /tmp`: runs are written to the folder they are started in, weights to /huggingface.
# The CUDA image has no CUDA of its own: PyTorch's wheel brings the libraries, the host the driver (NVIDIA container toolkit).
FROM python:3.11-slim

# Where torch is installed from; empty takes the build that pip finds by itself, which on Linux is the one for CUDA.
ARG TORCH_INDEX=

WORKDIR /opt/recgen
COPY constraints.txt ./
# Only the two come from that index; what they need is taken from PyPI, in the tested versions, which such an index need not have.
RUN pip install --no-cache-dir --no-deps -c constraints.txt ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch torchvision \
 && pip install --no-cache-dir -c constraints.txt torch torchvision
COPY setup.py README.md LICENSE pyproject.toml ./
COPY recgen recgen
COPY generators generators
COPY ranking_models ranking_models
COPY recbole_configs recbole_configs
# faiss-cpu comes with recgen. faiss-gpu must never lie beside it: both are the one package `faiss`, and the later one overwrites
# half of the first. On 10 million vectors the CPU's takes milliseconds a query, so that the CUDA image keeps it too.
RUN pip install --no-cache-dir -c constraints.txt '.[photos,postgres,s3,safety,serve,tune]' \
 && recgen doctor \
 && rm -r build recgen.egg-info

# A user whom the image does not know would have "/" for a home, where nothing that is fetched can be kept.
RUN mkdir -m 1777 /home/recgen /huggingface
ENV HOME=/home/recgen HF_HOME=/huggingface

# The first process of a container is not ended by SIGTERM unless it asks for it; an interrupt ends recgen within a second.
STOPSIGNAL SIGINT
WORKDIR /work
ENTRYPOINT ["recgen"]
CMD ["doctor"]
