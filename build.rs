//! Converts `docs/openapi.yaml` to JSON, so that the server needs no YAML parser.

use std::error::Error;
use std::path::Path;
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=docs/openapi.yaml");
    let document: serde_json::Value = serde_saphyr::from_str(&fs::read_to_string("docs/openapi.yaml")?)?;
    let out = env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?;
    fs::write(Path::new(&out).join("openapi.json"), serde_json::to_string(&document)?)?;
    Ok(())
}
