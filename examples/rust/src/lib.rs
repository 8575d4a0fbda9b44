//! Safe Rust over liborcd. `Context` -> `Model` -> `Generation`, which is an iterator of `Result<Token, Error>`.
//!
//! Each value borrows the one it was made from, so the compiler sees to it that a parent outlives its children; `Drop`
//! frees. All three are `Send` and `Sync`, because every function of the library may be called from any thread.

pub mod ffi;

use std::ffi::{CStr, CString, NulError};
use std::marker::PhantomData;
use std::os::raw::c_char;
use std::ptr;

/// A call that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    pub status: ffi::orcd_status,
    pub message: String,
    pub hint: String,
    /// The same call may succeed later.
    pub retriable: bool,
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}; {}", self.message, self.hint)
    }
}

impl std::error::Error for Error {}

impl From<NulError> for Error {
    fn from(error: NulError) -> Self {
        Error { status: 100, message: error.to_string(), hint: "leave out the NUL".into(), retriable: false }
    }
}

pub type Result<T> = std::result::Result<T, Error>;

/// REQUIRES a NUL-terminated text of the library.
unsafe fn text_of(text: *const c_char) -> String {
    if text.is_null() { String::new() } else { CStr::from_ptr(text).to_string_lossy().into_owned() }
}

/// Right after the call that gave `status`, on the same thread.
fn check(status: ffi::orcd_status) -> Result<()> {
    if status == ffi::OK {
        return Ok(());
    }
    let mut error = ffi::orcd_error {
        struct_size: std::mem::size_of::<ffi::orcd_error>() as u32,
        status,
        message: ptr::null(),
        hint: ptr::null(),
        retriable: 0,
        reserved: 0,
    };
    // The texts are this thread's until its next failing call: copied here.
    unsafe {
        ffi::orcd_last_error(ptr::null(), &mut error);
        Err(Error {
            status,
            message: text_of(error.message),
            hint: text_of(error.hint),
            retriable: error.retriable != 0,
        })
    }
}

/// A result struct: all zero, but for its size.
///
/// # Safety
/// T must be a struct of orcd.h that begins with struct_size; those are valid when zero.
unsafe fn sized<T>() -> T {
    let mut value = std::mem::MaybeUninit::<T>::zeroed();
    value.as_mut_ptr().cast::<u32>().write(std::mem::size_of::<T>() as u32);
    value.assume_init()
}

/// Calls fill(pointer, capacity, &mut n) with more room until it fits; `extra` elements beside the n it tells.
fn grown<T: Clone + Default>(
    capacity: usize,
    extra: usize,
    mut fill: impl FnMut(*mut T, usize, &mut usize) -> ffi::orcd_status,
) -> (ffi::orcd_status, Vec<T>) {
    let mut buffer = vec![T::default(); capacity];
    let mut n = 0;
    let mut status = fill(buffer.as_mut_ptr(), buffer.len(), &mut n);
    while status == ffi::BUFFER_TOO_SMALL {
        buffer.resize(n + extra, T::default());
        status = fill(buffer.as_mut_ptr(), buffer.len(), &mut n);
    }
    buffer.truncate(if status == ffi::OK { n } else { 0 });
    (status, buffer)
}

/// Limits of a model; 0 is the library's default.
#[derive(Debug, Clone, Default)]
pub struct Limits {
    pub n_threads: u32,
    pub context_tokens: u32,
    pub n_slots: u32,
    pub budget_bytes: u64,
}

pub struct Context {
    handle: *mut ffi::orcd_context,
}

// The handle is a key, and the library guards what it names.
unsafe impl Send for Context {}
unsafe impl Sync for Context {}

impl Context {
    pub fn new() -> Result<Context> {
        let mut handle = ptr::null_mut();
        check(unsafe { ffi::orcd_context_create(&mut handle) })?;
        Ok(Context { handle })
    }

    fn with_options<T>(
        path: &str,
        device: &str,
        limits: &Limits,
        call: impl FnOnce(&ffi::orcd_model_options) -> Result<T>,
    ) -> Result<T> {
        let (path, device) = (CString::new(path)?, CString::new(device)?);
        call(&ffi::orcd_model_options {
            struct_size: std::mem::size_of::<ffi::orcd_model_options>() as u32,
            n_threads: limits.n_threads,
            path: path.as_ptr(),
            device: device.as_ptr(),
            tokenizer_path: ptr::null(),
            context_tokens: limits.context_tokens,
            n_slots: limits.n_slots,
            batch_tokens: 0,
            max_queue: 0,
            budget_bytes: limits.budget_bytes,
            kv_cache_bytes: 0,
        })
    }

    /// What loading would take; nothing is allocated on the device.
    pub fn plan(&self, path: &str, device: &str, limits: &Limits) -> Result<ffi::orcd_plan> {
        Self::with_options(path, device, limits, |options| unsafe {
            let mut plan = sized::<ffi::orcd_plan>();
            check(ffi::orcd_model_plan(self.handle, options, &mut plan)).map(|()| plan)
        })
    }

    pub fn load(&self, path: &str, device: &str, limits: &Limits) -> Result<Model<'_>> {
        Self::with_options(path, device, limits, |options| {
            let mut handle = ptr::null_mut();
            check(unsafe { ffi::orcd_model_load(self.handle, options, &mut handle) })?;
            Ok(Model { handle, context: PhantomData })
        })
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        unsafe { ffi::orcd_context_destroy(self.handle) };
    }
}

pub struct Model<'context> {
    handle: *mut ffi::orcd_model,
    context: PhantomData<&'context Context>,
}

unsafe impl Send for Model<'_> {}
unsafe impl Sync for Model<'_> {}

/// What a generation is asked for; `Default` is the library's, sampled.
#[derive(Debug, Clone)]
pub struct GenerationOptions {
    pub max_tokens: u32,
    pub temperature: f32,
    pub top_p: f32,
    pub seed: Option<u64>,
    pub stop: Vec<String>,
    pub timeout_ms: u32,
}

impl Default for GenerationOptions {
    fn default() -> Self {
        GenerationOptions { max_tokens: 2048, temperature: 1.0, top_p: 1.0, seed: None, stop: vec![], timeout_ms: 0 }
    }
}

impl Model<'_> {
    pub fn start(&self, prompt: &str, options: &GenerationOptions) -> Result<Generation<'_>> {
        let stops = options.stop.iter().map(|text| CString::new(text.as_str())).collect::<std::result::Result<Vec<_>, _>>()?;
        let pointers: Vec<*const c_char> = stops.iter().map(|text| text.as_ptr()).collect();
        let mut handle = ptr::null_mut();
        unsafe {
            let mut wanted = sized::<ffi::orcd_generation_options>();
            check(ffi::orcd_generation_options_init(&mut wanted, wanted.struct_size))?;
            wanted.max_tokens = options.max_tokens;
            wanted.temperature = options.temperature;
            wanted.top_p = options.top_p;
            wanted.has_seed = options.seed.is_some() as u32;
            wanted.seed = options.seed.unwrap_or(0);
            wanted.stop = pointers.as_ptr();
            wanted.n_stop = pointers.len() as u32;
            wanted.timeout_ms = options.timeout_ms;
            check(ffi::orcd_generation_start(
                self.handle,
                prompt.as_ptr().cast(),
                prompt.len(),
                &wanted,
                &mut handle,
            ))?;
        }
        Ok(Generation { handle, over: false, model: PhantomData })
    }

    pub fn tokenize(&self, text: &str) -> Result<Vec<i32>> {
        let (status, tokens) = grown(text.len() + 8, 0, |ids, capacity, n| unsafe {
            ffi::orcd_tokenize(self.handle, text.as_ptr().cast(), text.len(), 0, ids, capacity, n)
        });
        check(status).map(|()| tokens)
    }

    /// The bytes of the tokens: they may hold a part of a character only.
    pub fn detokenize(&self, tokens: &[i32]) -> Result<Vec<u8>> {
        let (status, text) = grown(8 * tokens.len() + 8, 1, |text: *mut u8, capacity, n| unsafe {
            ffi::orcd_detokenize(self.handle, tokens.as_ptr(), tokens.len(), 0, text.cast(), capacity, n)
        });
        check(status).map(|()| text)
    }

    pub fn memory(&self) -> Result<ffi::orcd_model_memory> {
        unsafe {
            let mut memory = sized::<ffi::orcd_model_memory>();
            check(ffi::orcd_model_get_memory(self.handle, &mut memory)).map(|()| memory)
        }
    }
}

impl Drop for Model<'_> {
    fn drop(&mut self) {
        unsafe { ffi::orcd_model_unload(self.handle) };
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// None: text that belongs to no token.
    pub id: Option<i32>,
    pub text: String,
}

/// How a generation went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    pub n_prompt_tokens: u32,
    pub n_tokens: u32,
    pub seed: u64,
    pub model_digest: String,
    pub logits_digest: String,
}

/// Gives its tokens as they come; one that failed gives its error last. Dropping it cancels it.
pub struct Generation<'model> {
    handle: *mut ffi::orcd_generation,
    over: bool,
    model: PhantomData<&'model ()>,
}

unsafe impl Send for Generation<'_> {}
unsafe impl Sync for Generation<'_> {}

impl Generation<'_> {
    pub fn cancel(&self) -> Result<()> {
        check(unsafe { ffi::orcd_generation_cancel(self.handle) })
    }

    /// Once the iterator has come to its end.
    pub fn summary(&self) -> Result<Summary> {
        unsafe {
            let mut result = sized::<ffi::orcd_generation_result>();
            check(ffi::orcd_generation_get_result(self.handle, &mut result))?;
            Ok(Summary {
                n_prompt_tokens: result.n_prompt_tokens,
                n_tokens: result.n_tokens,
                seed: result.seed,
                model_digest: text_of(result.model_digest.as_ptr()),
                logits_digest: text_of(result.logits_digest.as_ptr()),
            })
        }
    }
}

impl Iterator for Generation<'_> {
    type Item = Result<Token>;

    fn next(&mut self) -> Option<Result<Token>> {
        if self.over {
            return None;
        }
        let mut token: ffi::orcd_token = unsafe { sized() };
        let (status, text) = grown(64, 1, |text: *mut u8, capacity, n| unsafe {
            ffi::orcd_generation_next_token(self.handle, ffi::WAIT_FOREVER, &mut token, text.cast(), capacity, n)
        });
        self.over = status != ffi::OK;
        match status {
            ffi::END => None,
            _ => Some(check(status).map(|()| Token {
                id: if token.id == ffi::NO_TOKEN { None } else { Some(token.id) },
                text: String::from_utf8_lossy(&text).into_owned(),
            })),
        }
    }
}

impl Drop for Generation<'_> {
    fn drop(&mut self) {
        unsafe { ffi::orcd_generation_free(self.handle) };
    }
}
