//! The pattern that fills every page of memory and every block of the disk. Pure.
//!
//! A page is 512 words: its index, its generation, a digest of both, and words derived from the digest. So one look
//! tells a page that is whole from one that is torn, stale (an older generation), or another page altogether.

/// Bytes of a page, and of a block on the disk.
pub(crate) const PAGE_SIZE: usize = 4096;

/// Words of a page.
pub(crate) const WORDS: usize = PAGE_SIZE / 8;

/// One page as it lies in memory.
pub(crate) type Page = [u64; WORDS];

/// What is wrong with a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Damage {
    /// The words do not belong together; the first wrong one is named.
    Torn { word: usize },
    /// Whole, but of another generation.
    Stale { generation: u64 },
    /// Whole, but another page's content.
    Misplaced { index: u64 },
}

/// Fills `page` as the `generation`th content of page `index`.
pub(crate) fn fill(page: &mut Page, index: u64, generation: u64) {
    let digest = digest(index, generation);
    page[0] = index;
    page[1] = generation;
    page[2] = digest;
    for (position, word) in page.iter_mut().enumerate().skip(3) {
        *word = word_at(digest, position);
    }
}

/// Looks whether `page` is what [`fill`] made of it.
pub(crate) fn verify(page: &Page, index: u64, generation: u64) -> Result<(), Damage> {
    let digest = digest(page[0], page[1]);
    if page[2] != digest {
        return Err(Damage::Torn { word: 2 });
    }
    if let Some((word, _)) =
        page.iter().enumerate().skip(3).find(|&(position, word)| *word != word_at(digest, position))
    {
        return Err(Damage::Torn { word });
    }
    match (page[0] == index, page[1] == generation) {
        (true, true) => Ok(()),
        (true, false) => Err(Damage::Stale { generation: page[1] }),
        (false, _) => Err(Damage::Misplaced { index: page[0] }),
    }
}

fn digest(index: u64, generation: u64) -> u64 {
    // The finaliser of SplitMix64: every bit of the input reaches every bit of the output.
    let mut z = index.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ generation.wrapping_add(0x6a09_e667_f3bc_c909);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn word_at(digest: u64, position: usize) -> u64 {
    digest.wrapping_add((position as u64).wrapping_mul(0x2545_f491_4f6c_dd1d))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(index: u64, generation: u64) -> Page {
        let mut page = [0; WORDS];
        fill(&mut page, index, generation);
        page
    }

    #[test]
    fn a_filled_page_is_whole() {
        assert_eq!(verify(&filled(7, 3), 7, 3), Ok(()));
    }

    #[test]
    fn every_single_wrong_word_is_found() {
        for word in 2..WORDS {
            let mut page = filled(7, 3);
            page[word] ^= 1 << 40;
            assert_eq!(verify(&page, 7, 3), Err(Damage::Torn { word }));
        }
    }

    #[test]
    fn an_older_content_and_another_page_are_told_apart() {
        assert_eq!(verify(&filled(7, 2), 7, 3), Err(Damage::Stale { generation: 2 }));
        assert_eq!(verify(&filled(8, 3), 7, 3), Err(Damage::Misplaced { index: 8 }));
        assert_eq!(verify(&[0; WORDS], 0, 0), Err(Damage::Torn { word: 2 }));
    }

    #[test]
    fn half_old_half_new_is_torn() {
        let mut page = filled(7, 3);
        page[WORDS / 2..].copy_from_slice(&filled(7, 2)[WORDS / 2..]);
        assert_eq!(verify(&page, 7, 3), Err(Damage::Torn { word: WORDS / 2 }));
    }
}
