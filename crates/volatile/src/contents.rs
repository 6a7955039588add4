//! What was written to a file and not synced yet.

use std::collections::BTreeMap;

const CHUNK: u64 = 4096;

/// The real file below.
pub(crate) trait Below {
    type Error;
    /// Fills `into` from `offset` on; what is behind the end is zeros.
    fn read(&mut self, into: &mut [u8], offset: u64) -> Result<(), Self::Error>;
    fn write(&mut self, bytes: &[u8], offset: u64) -> Result<(), Self::Error>;
    fn truncate(&mut self, size: u64) -> Result<(), Self::Error>;
    fn size(&mut self) -> Result<u64, Self::Error>;
}

/// A file as its writers see it.
#[derive(Default)]
pub(crate) struct Contents {
    /// Chunks that differ from the real file's.
    chunks: BTreeMap<u64, Box<[u8; CHUNK as usize]>>,
    /// The size, and how much of the real file still counts: the smallest size that this one had since it was synced. `None`: as below.
    sizes: Option<(u64, u64)>,
}

impl Contents {
    pub(crate) fn size<B: Below>(&self, below: &mut B) -> Result<u64, B::Error> {
        self.sizes.map_or_else(|| below.size(), |(size, _)| Ok(size))
    }

    /// Whether there is anything that is not synced.
    pub(crate) fn is_written(&self) -> bool {
        !self.chunks.is_empty()
    }

    /// Fills `into`; false when the file ends before, and the rest is zeros.
    pub(crate) fn read<B: Below>(
        &self,
        below: &mut B,
        into: &mut [u8],
        offset: u64,
    ) -> Result<bool, B::Error> {
        let size = self.size(below)?;
        for (index, within, range) in pieces(offset, into.len()) {
            let piece = &mut into[range];
            match self.chunks.get(&index) {
                Some(chunk) => piece.copy_from_slice(&chunk[within..within + piece.len()]),
                None => self.read_below(below, piece, index * CHUNK + within as u64)?,
            }
        }
        Ok(offset + into.len() as u64 <= size)
    }

    pub(crate) fn write<B: Below>(
        &mut self,
        below: &mut B,
        bytes: &[u8],
        offset: u64,
    ) -> Result<(), B::Error> {
        let (size, counts) = self.sizes(below)?;
        for (index, within, range) in pieces(offset, bytes.len()) {
            self.chunk(below, index)?[within..within + range.len()].copy_from_slice(&bytes[range]);
        }
        self.sizes = Some((size.max(offset + bytes.len() as u64), counts));
        Ok(())
    }

    pub(crate) fn truncate<B: Below>(&mut self, below: &mut B, size: u64) -> Result<(), B::Error> {
        let (_, counts) = self.sizes(below)?;
        let (last, within) = (size / CHUNK, (size % CHUNK) as usize);
        if within > 0 {
            self.chunk(below, last)?[within..].fill(0);
        }
        self.chunks.split_off(&size.div_ceil(CHUNK));
        self.sizes = Some((size, counts.min(size)));
        Ok(())
    }

    /// Gives everything to the real file.
    pub(crate) fn pour<B: Below>(&mut self, below: &mut B) -> Result<(), B::Error> {
        let Some((size, counts)) = self.sizes else { return Ok(()) };
        if counts < below.size()? {
            below.truncate(counts)?;
        }
        for (index, chunk) in &self.chunks {
            let start = index * CHUNK;
            let len = size.saturating_sub(start).min(CHUNK) as usize;
            below.write(&chunk[..len], start)?;
        }
        if below.size()? != size {
            below.truncate(size)?;
        }
        *self = Self::default();
        Ok(())
    }

    fn sizes<B: Below>(&self, below: &mut B) -> Result<(u64, u64), B::Error> {
        match self.sizes {
            Some(sizes) => Ok(sizes),
            None => below.size().map(|size| (size, size)),
        }
    }

    fn chunk<B: Below>(&mut self, below: &mut B, index: u64) -> Result<&mut [u8; CHUNK as usize], B::Error> {
        let mut fresh = None;
        if !self.chunks.contains_key(&index) {
            let mut chunk = Box::new([0; CHUNK as usize]);
            self.read_below(below, &mut chunk[..], index * CHUNK)?;
            fresh = Some(chunk);
        }
        Ok(self.chunks.entry(index).or_insert_with(|| fresh.unwrap_or_else(|| Box::new([0; CHUNK as usize]))))
    }

    /// What of the real file still counts; zeros for the rest.
    fn read_below<B: Below>(&self, below: &mut B, into: &mut [u8], offset: u64) -> Result<(), B::Error> {
        let counts = self.sizes.map_or(u64::MAX, |(_, counts)| counts);
        let len = counts.saturating_sub(offset).min(into.len() as u64) as usize;
        let (old, gone) = into.split_at_mut(len);
        gone.fill(0);
        if old.is_empty() { Ok(()) } else { below.read(old, offset) }
    }
}

/// The parts of `offset .. offset + len` by chunk: its index, where in it, and which part of the whole.
fn pieces(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done as u64;
        let within = (at % CHUNK) as usize;
        let piece = (CHUNK as usize - within).min(len - done);
        let range = done..done + piece;
        done += piece;
        (piece > 0).then_some((at / CHUNK, within, range))
    })
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    impl Below for Vec<u8> {
        type Error = Infallible;

        fn read(&mut self, into: &mut [u8], offset: u64) -> Result<(), Infallible> {
            for (at, byte) in (offset as usize..).zip(into) {
                *byte = self.get(at).copied().unwrap_or(0);
            }
            Ok(())
        }

        fn write(&mut self, bytes: &[u8], offset: u64) -> Result<(), Infallible> {
            let end = offset as usize + bytes.len();
            if self.len() < end {
                self.resize(end, 0);
            }
            self[offset as usize..end].copy_from_slice(bytes);
            Ok(())
        }

        fn truncate(&mut self, size: u64) -> Result<(), Infallible> {
            self.resize(size as usize, 0);
            Ok(())
        }

        fn size(&mut self) -> Result<u64, Infallible> {
            Ok(self.len() as u64)
        }
    }

    /// Random steps against a plain vector: what is read, before and after it is poured out, is what the vector holds.
    #[test]
    fn reads_as_a_plain_file_does() {
        let mut seed = 7_u64;
        let mut below = |bound: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % bound
        };
        let (mut real, mut plain, mut contents) = (Vec::new(), Vec::new(), Contents::default());
        for round in 0..4000_u64 {
            let (offset, len) = (below(20_000), below(9000) as usize);
            let step = below(10);
            match step {
                0..5 => {
                    let bytes = vec![round as u8 | 1; len];
                    let Ok(()) = contents.write(&mut real, &bytes, offset);
                    if len > 0 {
                        let Ok(()) = plain.write(&bytes, offset);
                    } else {
                        let size = plain.len().max(offset as usize);
                        plain.resize(size, 0);
                    }
                }
                5 => {
                    let Ok(()) = contents.truncate(&mut real, offset);
                    let Ok(()) = Below::truncate(&mut plain, offset);
                }
                6 => {
                    let Ok(()) = contents.pour(&mut real);
                    assert_eq!(real, plain, "round {round}");
                }
                _ => {
                    let (mut seen, mut expected) = (vec![9; len], vec![9; len]);
                    let Ok(whole) = contents.read(&mut real, &mut seen, offset);
                    let Ok(()) = plain.read(&mut expected, offset);
                    assert!(seen == expected, "round {round}");
                    assert_eq!(whole, offset as usize + len <= plain.len());
                }
            }
            assert_eq!(contents.size(&mut real), Ok(plain.len() as u64), "round {round}");
        }
    }
}
