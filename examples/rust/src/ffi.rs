//! The part of orcd.h that this crate uses, as it stands there.
#![allow(non_camel_case_types)]

use std::os::raw::{c_char, c_void};

pub type orcd_status = i32;
pub const OK: orcd_status = 0;
pub const BUFFER_TOO_SMALL: orcd_status = 103;
pub const END: orcd_status = 105;
pub const WAIT_FOREVER: u32 = u32::MAX;
pub const NO_TOKEN: i32 = -1;

pub type orcd_context = c_void;
pub type orcd_model = c_void;
pub type orcd_generation = c_void;

#[repr(C)]
pub struct orcd_error {
    pub struct_size: u32,
    pub status: orcd_status,
    pub message: *const c_char,
    pub hint: *const c_char,
    pub retriable: u32,
    pub reserved: u32,
}

#[repr(C)]
pub struct orcd_model_options {
    pub struct_size: u32,
    pub n_threads: u32,
    pub path: *const c_char,
    pub device: *const c_char,
    pub tokenizer_path: *const c_char,
    pub context_tokens: u32,
    pub n_slots: u32,
    pub batch_tokens: u32,
    pub max_queue: u32,
    pub budget_bytes: u64,
    pub kv_cache_bytes: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct orcd_plan {
    pub struct_size: u32,
    pub fits: u32,
    pub total_bytes: u64,
    pub available_bytes: u64,
    pub free_bytes: u64,
    pub weights_bytes: u64,
    pub kv_bytes: u64,
    pub activations_bytes: u64,
    pub sampling_bytes: u64,
    pub staging_bytes: u64,
    pub graphs_bytes: u64,
    pub pinned_host_bytes: u64,
    pub max_context_tokens: u32,
    pub context_tokens: u32,
    pub n_slots: u32,
    pub n_kv_pages: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct orcd_model_memory {
    pub struct_size: u32,
    pub reserved: u32,
    pub total_bytes: u64,
    pub planned_bytes: u64,
    pub weights_bytes: u64,
    pub kv_bytes: u64,
    pub activations_bytes: u64,
    pub sampling_bytes: u64,
    pub staging_bytes: u64,
    pub graphs_bytes: u64,
    pub pinned_host_bytes: u64,
}

#[repr(C)]
pub struct orcd_generation_options {
    pub struct_size: u32,
    pub max_tokens: u32,
    pub temperature: f32,
    pub top_p: f32,
    pub min_p: f32,
    pub repetition_penalty: f32,
    pub top_k: u32,
    pub has_seed: u32,
    pub seed: u64,
    pub stop: *const *const c_char,
    pub n_stop: u32,
    pub timeout_ms: u32,
    pub flags: u32,
    pub reserved: u32,
}

#[repr(C)]
pub struct orcd_token {
    pub struct_size: u32,
    pub id: i32,
    pub index: u32,
    pub reserved: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct orcd_generation_result {
    pub struct_size: u32,
    pub stop_reason: u32,
    pub n_prompt_tokens: u32,
    pub n_tokens: u32,
    pub seed: u64,
    pub queue_ms: f64,
    pub prefill_ms: f64,
    pub first_token_ms: f64,
    pub decode_ms: f64,
    pub numerics_version: u32,
    pub reserved: u32,
    pub model_digest: [c_char; 40],
    pub logits_digest: [c_char; 40],
    pub stop_text: [c_char; 256],
}

extern "C" {
    pub fn orcd_last_error(context: *const orcd_context, out: *mut orcd_error) -> orcd_status;
    pub fn orcd_context_create(out: *mut *mut orcd_context) -> orcd_status;
    pub fn orcd_context_destroy(context: *mut orcd_context) -> orcd_status;
    pub fn orcd_model_plan(
        context: *mut orcd_context,
        options: *const orcd_model_options,
        out: *mut orcd_plan,
    ) -> orcd_status;
    pub fn orcd_model_load(
        context: *mut orcd_context,
        options: *const orcd_model_options,
        out: *mut *mut orcd_model,
    ) -> orcd_status;
    pub fn orcd_model_unload(model: *mut orcd_model) -> orcd_status;
    pub fn orcd_model_get_memory(model: *mut orcd_model, out: *mut orcd_model_memory) -> orcd_status;
    pub fn orcd_tokenize(
        model: *mut orcd_model,
        text: *const c_char,
        text_bytes: usize,
        flags: u32,
        tokens: *mut i32,
        capacity: usize,
        out_n_tokens: *mut usize,
    ) -> orcd_status;
    pub fn orcd_detokenize(
        model: *mut orcd_model,
        tokens: *const i32,
        n_tokens: usize,
        flags: u32,
        text: *mut c_char,
        capacity: usize,
        out_text_bytes: *mut usize,
    ) -> orcd_status;
    pub fn orcd_generation_options_init(options: *mut orcd_generation_options, struct_size: u32) -> orcd_status;
    pub fn orcd_generation_start(
        model: *mut orcd_model,
        prompt: *const c_char,
        prompt_bytes: usize,
        options: *const orcd_generation_options,
        out: *mut *mut orcd_generation,
    ) -> orcd_status;
    pub fn orcd_generation_next_token(
        generation: *mut orcd_generation,
        timeout_ms: u32,
        out_token: *mut orcd_token,
        text: *mut c_char,
        capacity: usize,
        out_text_bytes: *mut usize,
    ) -> orcd_status;
    pub fn orcd_generation_cancel(generation: *mut orcd_generation) -> orcd_status;
    pub fn orcd_generation_get_result(
        generation: *mut orcd_generation,
        out: *mut orcd_generation_result,
    ) -> orcd_status;
    pub fn orcd_generation_free(generation: *mut orcd_generation) -> orcd_status;
}
