//! What became of the recipients of a message.

use super::segment::u32_of;

/// The outcome of each recipient, 0 if it was not tried. `None`: these bytes are no progress of this number of recipients.
pub(super) fn outcomes(mut bytes: &[u8], recipients: usize) -> Option<Vec<u8>> {
    let mut outcomes = vec![0; recipients];
    let mut group: Vec<usize> = Vec::new();
    while !bytes.is_empty() {
        let (head, rest) = bytes.split_at_checked(5)?;
        let (value, rest) = rest.split_at_checked(u32_of(head, 1) as usize)?;
        bytes = rest;
        match head[0] {
            1 => {
                let runs = value.chunks(8).map(|run| {
                    let run = run.get(..8)?;
                    let (first, count) = (u32_of(run, 0) as usize, u32_of(run, 4) as usize);
                    (first + count <= recipients).then_some(first..first + count)
                });
                group = runs.collect::<Option<Vec<_>>>()?.into_iter().flatten().collect();
            }
            2 => {
                let outcome = *value.first().filter(|outcome| b"DWRFYMLXVU".contains(*outcome))?;
                for recipient in &group {
                    let place = outcomes.get_mut(*recipient).filter(|before| **before == 0)?;
                    *place = outcome;
                }
            }
            _ => {}
        }
    }
    Some(outcomes)
}

#[cfg(test)]
mod tests {
    use mailrace_core::record::delivery::{Deferral, Progress, RecipientState};

    use super::*;

    #[test]
    fn the_engine_writes_the_documented_format() {
        let deferred = RecipientState::Deferred(Deferral { attempts: 1, ..Deferral::default() });
        let states = [
            RecipientState::Done,
            deferred.clone(),
            RecipientState::Untried,
            RecipientState::Reported,
            RecipientState::Done,
            deferred,
        ];
        let mut bytes = Vec::new();
        Progress::of(&states).unwrap().encode(&mut bytes).unwrap();
        assert_eq!(outcomes(&bytes, 6).unwrap(), *b"DW\0RDW");
        assert_eq!(outcomes(&bytes, 5), None, "a recipient too few");
        assert_eq!(outcomes(&bytes[..bytes.len() - 1], 6), None, "a field is cut");
    }
}
