use std::io::Write;

use super::*;
use crate::conformance::{Bench, conformance};

conformance!(EpollIo);

#[test]
fn one_that_floods_gets_one_receive_a_wait_as_all_others() {
    let mut bench = Bench::new(EpollIo::new(Settings { connections: 4, ..Settings::default() }).unwrap());
    let (mut flood, flooding) = bench.connected();
    let (mut other, waiting) = bench.connected();
    bench.io.submit(Token(1), Operation::Receive(flooding));
    flood.set_nonblocking(true).unwrap();
    let mut turns = [0, 0];
    for _ in 0..100 {
        // As much as there is room for.
        while flood.write(&[b'x'; 65_536]).is_ok() {}
        bench.io.submit(Token(2), Operation::Receive(waiting));
        other.write_all(b"NOOP\r\n").unwrap();
        let mut is_there = false;
        while !is_there {
            bench.io.wait(Some(monotonic().after(Duration::from_secs(5))), &mut bench.completions).unwrap();
            let mut pieces = 0;
            for completion in std::mem::take(&mut bench.completions) {
                let Completion::Received { connection, piece, .. } = completion else {
                    panic!("{completion:?}");
                };
                pieces += 1;
                is_there |= connection == waiting;
                turns[usize::from(connection == waiting)] += 1;
                assert!(piece.len() <= 64 * 1024);
                bench.io.recycle(piece);
            }
            assert!(pieces <= 2, "{pieces} pieces in one wait");
        }
        bench.io.submit(Token(0), Operation::StopReceiving(waiting));
        let ended =
            |completion: &mut Completion| matches!(completion, Completion::ReceiveEnded { .. }).then_some(());
        bench.until(ended);
        for completion in std::mem::take(&mut bench.completions) {
            let Completion::Received { piece, .. } = completion else { panic!("{completion:?}") };
            bench.io.recycle(piece);
        }
    }
    // Each time it was there with the first wait or, where loopback took its time, soon after.
    assert_eq!(turns[1], 100);
    assert!(turns[0] < 1000, "the other had to wait for {} turns of the flood", turns[0]);
}
