# The image kis-testbed that manifests/ and charts/ name: `kis`, the embedded tritonserver, what prepares a Triton pod, and
# the load generator. `make image` builds it; docs/how-to/container-image.md says more.
# Any Debian with Python 3.11 to 3.13, its venv module and its shared library will do as the base.
ARG BASE=python:3.11-slim

FROM ${BASE} AS build
# requirements.lock adds PyTorch and the models (make image MODELS=1).
ARG LOCK=requirements-demo.lock
WORKDIR /src
COPY requirements.lock ${LOCK} ./
# pip and setuptools stay outside of the environment that ships. The mounted files are optional: how pip reaches its index
# here (pip.conf), and whom it trusts (PEM certificates).
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf --mount=type=secret,id=certificates \
    if [ -s /run/secrets/certificates ]; then export PIP_CERT=/run/secrets/certificates; fi \
    && python3 -m venv /opt/tools && python3 -m venv --without-pip /opt/venv \
    && sed -n '/^setuptools==/,/[^\\]$/p' requirements.lock > setuptools.lock \
    && /opt/tools/bin/pip install --no-cache-dir --require-hashes --no-deps -r setuptools.lock \
    && /opt/tools/bin/pip --python /opt/venv/bin/python install --no-cache-dir --require-hashes --no-deps -r ${LOCK}
COPY pyproject.toml README.md LICENSE ./
COPY workloads workloads
COPY loadgen loadgen
COPY testbed testbed
# A tenth of the packages is their own tests. The server by its usual name is what manifests/ start in NVIDIA's image too.
RUN /opt/tools/bin/pip wheel --no-deps --no-build-isolation --no-index --wheel-dir dist . \
    && /opt/tools/bin/pip --python /opt/venv/bin/python install --no-cache-dir --no-deps --no-index dist/*.whl \
    && cd /opt/venv/lib/python3.*/site-packages && rm -rf pandas/tests pyarrow/tests numba/tests \
    && ln -s "$PWD/pytriton/tritonserver/bin/tritonserver" /opt/venv/bin/tritonserver

FROM ${BASE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="kis-testbed" \
      org.opencontainers.image.description="A Triton service measured once, simulated in KISim, and its autoscalers" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
RUN groupadd --gid 1000 kis && useradd --uid 1000 --gid 1000 --home-dir /tmp --no-create-home kis
COPY --from=build /opt/venv /opt/venv
# Locust is given a file, not a module.
COPY loadgen /opt/kis/loadgen
# In a pod, /tmp is all that can be written: compiled code and fonts are cached there.
ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin HOME=/tmp PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /tmp
USER 1000:1000
ENTRYPOINT ["kis"]
