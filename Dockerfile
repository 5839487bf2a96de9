# The operator. The context is the repository; any Debian with Python 3.11 to 3.13 and venv serves as the base.
ARG BASE_IMAGE=python:3.13-slim

FROM ${BASE_IMAGE} AS build
RUN python3 -m venv /opt/venv
COPY requirements/operator.txt /build/
RUN /opt/venv/bin/pip install --no-cache-dir --disable-pip-version-check --no-compile \
        --require-hashes -r /build/operator.txt \
    && /opt/venv/bin/pip uninstall --yes --disable-pip-version-check pip
COPY operator/tunnel_operator /opt/app/tunnel_operator
COPY forwarder-image/tunnel_forwarder /opt/app/tunnel_forwarder
# Compiled here, since nothing can be written later.
RUN /opt/venv/bin/python -m compileall -q -j 0 /opt/venv/lib /opt/app

FROM ${BASE_IMAGE}
COPY --from=build /opt/venv /opt/venv
COPY --from=build /opt/app /opt/app
# Each thread's own heap of the C library would keep what was freed in it.
ENV PYTHONPATH=/opt/app PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 MALLOC_ARENA_MAX=2
USER 65532:65532
ENTRYPOINT ["/opt/venv/bin/python", "-m", "tunnel_operator"]
