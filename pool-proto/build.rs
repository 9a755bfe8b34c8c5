//! Compiles the messages with protox, so that no protoc is needed.

use std::{env, fs, path::PathBuf};

use prost::Message as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["common", "session", "admin", "journal"].map(|f| format!("tierpool/{f}.proto"));
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(files, ["proto"])?;
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    let grpc = env::var_os("CARGO_FEATURE_GRPC").is_some();
    let mut builder = tonic_prost_build::configure()
        .build_client(grpc)
        .build_server(grpc);
    if env::var_os("CARGO_FEATURE_SERDE").is_some() {
        builder = serializable(builder);
    }
    builder.compile_fds(descriptors)?;
    Ok(())
}

/// Makes what operators see serializable. A field that holds an enumerator is a number in the
/// generated code, and says so by the name of a function that writes it as a word.
fn serializable(mut builder: tonic_prost_build::Builder) -> tonic_prost_build::Builder {
    for package in [".tierpool.admin.v1", ".tierpool.common.v1"] {
        builder = builder.message_attribute(package, "#[derive(serde::Serialize)]");
    }
    for (field, enumeration) in [
        ("admin.v1.Device.state", "DeviceState"),
        ("admin.v1.Holder.access", "Access"),
        ("common.v1.Segment.lifetime", "Lifetime"),
        ("common.v1.Piece.pages", "Pages"),
        ("common.v1.Share.access", "Access"),
        ("common.v1.Coherence.mode", "CoherenceMode"),
        ("common.v1.Coherence.on_death", "OnDeath"),
        ("common.v1.Error.class", "ErrorClass"),
        ("common.v1.Error.reason", "ErrorReason"),
    ] {
        let writer = format!("crate::names::serialize::<crate::common::v1::{enumeration}, _>");
        let attribute = format!("#[serde(serialize_with = \"{writer}\")]");
        builder = builder.field_attribute(format!("tierpool.{field}"), attribute);
    }
    builder
}
