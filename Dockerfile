# The image `kis-testbed` that manifests/ name: what prepares a Triton pod, `kis controller`, and the load generator.
#   docker build -t REGISTRY/kis-testbed:0.1.0 .
# Then say so in an overlay of yours: images: [{name: kis-testbed, newName: REGISTRY/kis-testbed, newTag: 0.1.0}].
# Any Debian with Python 3.11 to 3.13 as python3 and its venv module will do as the base.
ARG BASE=python:3.11-slim

FROM ${BASE} AS build
WORKDIR /src
RUN python3 -m venv /opt/venv
COPY requirements.lock .
RUN /opt/venv/bin/pip install --no-cache-dir --require-hashes --no-deps -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY workloads workloads
COPY loadgen loadgen
COPY testbed testbed
RUN /opt/venv/bin/pip install --no-cache-dir --no-deps --no-build-isolation --no-index .

FROM ${BASE}
COPY --from=build /opt/venv /opt/venv
# Locust is given a file, not a module.
COPY loadgen /opt/kis/loadgen
RUN groupadd --gid 1000 kis && useradd --uid 1000 --gid 1000 --home-dir /tmp --no-create-home kis
# In a pod, /tmp is all that can be written: compiled code and fonts are cached there.
ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin HOME=/tmp PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 1000:1000
ENTRYPOINT ["kis"]
