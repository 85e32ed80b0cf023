# The server as an image; docs/deployment.md explains its use.
FROM python:3.12-slim AS build
WORKDIR /source
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY mockserver mockserver
COPY contracts contracts
COPY fixtures fixtures
ARG EXTRAS=otel,redis,tls
# A virtual environment is one folder to copy, so that neither pip's cache nor the sources get into the image.
RUN python -m venv /opt/hobbyhorse \
    && /opt/hobbyhorse/bin/pip install --no-cache-dir --disable-pip-version-check ".[${EXTRAS}]"

FROM python:3.12-slim
LABEL org.opencontainers.image.title="hobbyhorse" \
      org.opencontainers.image.description="A local stand-in for the providers of video models" \
      org.opencontainers.image.licenses="MIT"
# A number, because Kubernetes cannot verify that a name is not root. /data belongs to it, and so does a new volume there.
RUN groupadd --gid 10001 hobbyhorse \
    && useradd --uid 10001 --gid 10001 --home-dir /data --no-create-home --shell /usr/sbin/nologin hobbyhorse \
    && install --directory --owner=10001 --group=10001 /data
COPY --from=build /opt/hobbyhorse /opt/hobbyhorse
# A server on 127.0.0.1 cannot be reached from outside its container. Videos are kept in the volume.
ENV PATH=/opt/hobbyhorse/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    XDG_CACHE_HOME=/data/cache \
    HOBBYHORSE_SERVE_HOST=0.0.0.0 \
    HOBBYHORSE_SERVE_PORT=8000
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 CMD ["hobbyhorse", "health"]
ENTRYPOINT ["hobbyhorse"]
CMD ["serve"]
