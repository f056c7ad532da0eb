# syntax=docker/dockerfile:1

FROM rust:1.95-alpine AS build
RUN apk add --no-cache gcc musl-dev
WORKDIR /src
COPY . .
ARG TARGETPLATFORM
# The id by which a program and its symbols know each other.
ENV RUSTFLAGS="-C link-arg=-Wl,--build-id"
# Cargo trusts dates, and the cached target may be younger than a source that has just come back from another branch.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target,id=subjobs-target-${TARGETPLATFORM},sharing=locked \
    touch src/lib.rs src/main.rs \
    && cargo build --release --locked --bin subjobs \
    && mkdir /data /dist \
    && deploy/split-symbols target/release/subjobs /dist

# The program and its symbols, which the image does not hold: docker build --target dist --output dist .
FROM scratch AS dist
COPY --from=build /dist /

FROM scratch
COPY --from=build /dist/subjobs /subjobs
# For --data-dir: a volume that is mounted here begins with this owner.
COPY --from=build --chown=65532:65532 /data /data

USER 65532:65532
# SUBJOBS_INTERNAL_LISTEN also tells the health check where to ask.
ENV SUBJOBS_LISTEN=0.0.0.0:8080 SUBJOBS_INTERNAL_LISTEN=0.0.0.0:9090
EXPOSE 8080 9090
STOPSIGNAL SIGTERM
# Until the start period ends, loading is no failure.
HEALTHCHECK --interval=5s --timeout=3s --start-period=60s --retries=3 CMD ["/subjobs", "healthcheck"]
ENTRYPOINT ["/subjobs"]
CMD ["serve"]

ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="subjobs" \
      org.opencontainers.image.description="Counts the subtasks of a project's asynchronous jobs over HTTP" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
