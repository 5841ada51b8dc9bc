//! `Event` messages, field by field (tensorflow's `event.proto` and `summary.proto`):
//!
//! ```text
//! Event      1 wall_time (double)  2 step (int64)  3 file_version (string)  5 summary  7 session_log
//! Summary    1 value, repeated: 1 tag (string)  2 simple_value (float)
//! SessionLog 1 status: 1 is START
//! ```

/// What a file begins with.
pub(super) fn version(time: f64) -> Vec<u8> {
    let mut event = Message::default();
    event.double(1, time).bytes(3, b"brain.Event:2");
    event.0
}

/// The beginning of a process that writes steps from `step` on; it makes readers forget what others
/// have said of them.
pub(super) fn start(time: f64, step: u64) -> Vec<u8> {
    let mut log = Message::default();
    log.integer(1, 1);
    let mut event = Message::default();
    event.double(1, time).integer(2, step).bytes(7, &log.0);
    event.0
}

/// Values of a step, by their tags.
pub(super) fn scalars(time: f64, step: u64, scalars: &[(&str, f64)]) -> Vec<u8> {
    let mut summary = Message::default();
    for (tag, x) in scalars {
        let mut value = Message::default();
        value.bytes(1, tag.as_bytes()).float(2, *x as f32);
        summary.bytes(1, &value.0);
    }
    let mut event = Message::default();
    event.double(1, time).integer(2, step).bytes(5, &summary.0);
    event.0
}

/// A message under way, as the wire format of protocol buffers has it.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn double(&mut self, field: u32, x: f64) -> &mut Self {
        self.key(field, 1).0.extend(x.to_le_bytes());
        self
    }

    fn float(&mut self, field: u32, x: f32) -> &mut Self {
        self.key(field, 5).0.extend(x.to_le_bytes());
        self
    }

    fn integer(&mut self, field: u32, x: u64) -> &mut Self {
        self.key(field, 0).varint(x)
    }

    fn bytes(&mut self, field: u32, bytes: &[u8]) -> &mut Self {
        self.key(field, 2).varint(bytes.len() as u64).0.extend(bytes);
        self
    }

    fn key(&mut self, field: u32, wire_type: u32) -> &mut Self {
        self.varint(u64::from(field << 3 | wire_type))
    }

    /// Seven bits a byte, the least first.
    fn varint(&mut self, mut x: u64) -> &mut Self {
        while x >= 0x80 {
            self.0.push(x as u8 | 0x80);
            x >>= 7;
        }
        self.0.push(x as u8);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_those_of_the_wire_format() {
        // 300 is the example of the encoding's own documentation: 0xac 0x02.
        let start = start(1.0, 300);
        assert_eq!(start[..9], [0x09, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f]);
        assert_eq!(start[9..], [0x10, 0xac, 0x02, 0x3a, 2, 0x08, 1]);
        let scalars = scalars(1.0, 1, &[("a", 2.0)]);
        let value = [0x0a, 8, 0x0a, 1, b'a', 0x15, 0, 0, 0, 0x40];
        assert_eq!(scalars[9..], [&[0x10, 1, 0x2a, 10][..], &value].concat());
    }
}
