//! Gives the library its name, by which programs that are linked with it ask for it.

fn main() {
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libtierpool.so");
    println!("cargo::rerun-if-changed=build.rs");
}
