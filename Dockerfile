# docker build -t gancompress .
# docker run --rm -v "$PWD:/work" gancompress prune --max-steps 60
# With a GPU: docker build --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu128 ... and docker run --gpus all
FROM python:3.12-slim
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /src
# torch first: its layer is large and changes seldom.
RUN pip install --no-cache-dir torch torchvision --index-url ${TORCH_INDEX}
COPY pyproject.toml README.md LICENSE ./
COPY gancompress gancompress
RUN pip install --no-cache-dir '.[report,onnx,data]' && rm -rf /src
RUN useradd --create-home user && mkdir /work && chown user /work
USER user
WORKDIR /work
ENTRYPOINT ["gancompress"]
