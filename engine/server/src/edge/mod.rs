//! What the engine asks others for: names.

pub mod dns;
