//! The bytes of records: varints (LEB128) and length-prefixed runs. A length is checked against what is there before anything is taken.

use bytes::{BufMut, Bytes, BytesMut};

use crate::message::RecordError;

pub(crate) struct Writer(BytesMut);

impl Writer {
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self(BytesMut::with_capacity(bytes))
    }

    pub(crate) fn byte(&mut self, byte: u8) {
        self.0.put_u8(byte);
    }

    pub(crate) fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.put_u8(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        self.0.put_u8(value.to_le_bytes()[0]);
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.varint(bytes.len() as u64);
        self.0.put_slice(bytes);
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    pub(crate) fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.byte(u8::from(value.is_some()));
        if let Some(value) = value {
            write(self, value);
        }
    }

    pub(crate) fn finish(self) -> Bytes {
        self.0.freeze()
    }
}

pub(crate) struct Reader<'a> {
    record: &'a Bytes,
    at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(record: &'a Bytes) -> Self {
        Self { record, at: 0 }
    }

    pub(crate) fn byte(&mut self) -> Result<u8, RecordError> {
        let byte = *self.record.get(self.at).ok_or(RecordError::Corrupt)?;
        self.at += 1;
        Ok(byte)
    }

    pub(crate) fn varint(&mut self) -> Result<u64, RecordError> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            if shift == 63 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(RecordError::Corrupt)
    }

    pub(crate) fn bytes(&mut self) -> Result<Bytes, RecordError> {
        let len = usize::try_from(self.varint()?).map_err(|_| RecordError::Corrupt)?;
        let end =
            self.at.checked_add(len).filter(|end| *end <= self.record.len()).ok_or(RecordError::Corrupt)?;
        let bytes = self.record.slice(self.at..end);
        self.at = end;
        Ok(bytes)
    }

    pub(crate) fn text(&mut self) -> Result<&'a str, RecordError> {
        let len = self.bytes()?.len();
        let start = self.at - len;
        std::str::from_utf8(&self.record[start..self.at]).map_err(|_| RecordError::Corrupt)
    }

    pub(crate) fn option<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, RecordError>,
    ) -> Result<Option<T>, RecordError> {
        match self.byte()? {
            0 => Ok(None),
            1 => read(self).map(Some),
            _ => Err(RecordError::Corrupt),
        }
    }

    pub(crate) fn end(&self) -> Result<(), RecordError> {
        if self.at == self.record.len() { Ok(()) } else { Err(RecordError::Corrupt) }
    }
}
