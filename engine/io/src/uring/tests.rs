use super::*;
use crate::conformance::conformance;

fn small() -> Uring {
    Uring::new(Settings {
        connections: 4,
        receive_buffers: 2,
        receive_buffer_size: 4096,
        ..Settings::default()
    })
    .unwrap()
}

fn roomy() -> Uring {
    Uring::new(Settings {
        connections: 4,
        receive_buffers: 8,
        receive_buffer_size: 65_536,
        ..Settings::default()
    })
    .unwrap()
}

conformance!(small, roomy);
