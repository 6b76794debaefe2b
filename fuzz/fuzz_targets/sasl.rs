#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kmirror_fuzz::targets::sasl::run(data));
