# Built from the locked dependencies; the image holds the one binary and runs as nobody in particular.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY src ./src
# The manifest names the test binary, so its folder must be there.
COPY proto-tests ./proto-tests
RUN cargo build --release --locked --bin kmirror && strip target/release/kmirror

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /src/target/release/kmirror /usr/local/bin/kmirror
COPY LICENSE /usr/share/doc/kmirror/LICENSE
ENV PATH=/usr/local/bin:/usr/bin:/bin
USER nonroot
ENTRYPOINT ["/usr/local/bin/kmirror"]
CMD ["--help"]
