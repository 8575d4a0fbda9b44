//! One greedy generation from Rust:
//!
//!   ORCD_LIB_DIR=$PWD/build/release/lib LD_LIBRARY_PATH=build/release/lib \
//!     cargo run --manifest-path examples/rust/Cargo.toml -- MODEL.gguf "The sky is" 16
//!
//! Prints the text as it comes, then the ids and the digest of the logits they were drawn from.
use std::io::Write;

use orcd::{Context, GenerationOptions, Limits};

fn generate(path: &str, prompt: &str, max_tokens: u32) -> Result<(), Box<dyn std::error::Error>> {
    let context = Context::new()?;
    let limits = Limits::default();
    eprintln!("{} bytes on cpu", context.plan(path, "cpu", &limits)?.total_bytes);
    let model = context.load(path, "cpu", &limits)?;
    let options = GenerationOptions { max_tokens, temperature: 0.0, ..Default::default() };
    let mut generation = model.start(prompt, &options)?;
    let mut ids = Vec::new();
    for token in generation.by_ref() {
        let token = token?;
        print!("{}", token.text);
        std::io::stdout().flush()?;
        ids.extend(token.id.map(|id| id.to_string()));
    }
    println!("\ntokens: {}", ids.join(" "));
    println!("logits: {}", generation.summary()?.logits_digest);
    Ok(())
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let max_tokens = match arguments.get(3).map(|text| text.parse()) {
        Some(Ok(n)) if arguments.len() == 4 => n,
        _ => {
            eprintln!("usage: {} MODEL.gguf PROMPT MAX_TOKENS", arguments[0]);
            std::process::exit(2);
        }
    };
    if let Err(error) = generate(&arguments[1], &arguments[2], max_tokens) {
        eprintln!("{error}");
        std::process::exit(1);
    }
}
