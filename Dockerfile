# Built from the locked dependencies. The image holds one static binary and the usual certificate authorities, no shell, and runs as
# nobody in particular (65532). What runs a command for a secret (${command:…}) needs an image that has it.
FROM rust:1.95-bookworm AS build
RUN apt-get update && apt-get install --yes --no-install-recommends musl-tools && rustup target add x86_64-unknown-linux-musl
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY src ./src
# The manifest names the test binary, so its folder must be there.
COPY proto-tests ./proto-tests
RUN cargo build --release --locked --bin kmirror --target x86_64-unknown-linux-musl && \
    strip --output-file /kmirror target/x86_64-unknown-linux-musl/release/kmirror

FROM gcr.io/distroless/static-debian12:nonroot
COPY --from=build /kmirror /usr/local/bin/kmirror
COPY LICENSE /usr/share/doc/kmirror/LICENSE
ENV PATH=/usr/local/bin:/usr/bin:/bin
USER nonroot
ENTRYPOINT ["/usr/local/bin/kmirror"]
CMD ["--help"]
