//! Where liborcd.so is: ORCD_LIB_DIR, else where the linker looks.
fn main() {
    println!("cargo:rerun-if-env-changed=ORCD_LIB_DIR");
    if let Ok(dir) = std::env::var("ORCD_LIB_DIR") {
        println!("cargo:rustc-link-search=native={dir}");
    }
    println!("cargo:rustc-link-lib=dylib=orcd");
}
