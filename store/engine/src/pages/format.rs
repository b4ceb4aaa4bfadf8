//! The bytes of a redb file, format 3: header, commit slots, pages, tables. Parsing only; every read is checked.
//!
//! ```text
//! 0     magic 9 · flags 1 · 0 2 · page size 4 · header pages of a region 4 · data pages of a region 4 · full regions 4 · pages of the last 4
//! 64    slot 0: version 1 · has data 1 · has system 1 · 0 5 · data tree 32 · system tree 32 · 0 32 · transaction 8 · 0 · sum 16
//! 192   slot 1
//! tree: page number 8 · sum of the page 16 · number of entries 8
//! page number: index 20 bits · region 20 bits · reserved 19 bits · order 5 bits; an order is how often the page is doubled
//! leaf:   01 · 0 1 · pairs 2 · [end of each key 4] · [end of each value 4] · keys · values
//! branch: 02 · 0 1 · keys 2 · 0 4 · sum of each child 16 · number of each child 8 · [end of each key 4] · keys
//! ```
//! Ends are left out where all keys, or values, have one length. A sum is XXH3 of 128 bits up to the end of the last value or
//! key; what follows in a page is free. Numbers are little-endian.

use std::ops::Range;

/// What redb files are cut into.
pub(super) const PAGE_BYTES: u64 = 4096;
/// The bytes of the header with both slots.
pub(super) const HEADER_BYTES: usize = 320;
const MAGIC: &[u8; 9] = b"redb\x1a\x0a\xa9\x0d\x0a";
const SLOT_BYTES: usize = 128;
const SUM_AT: usize = SLOT_BYTES - 16;
const VERSION: u8 = 3;
const MAX_REGION_PAGES: u32 = 1 << 20;
const LEAF: u8 = 1;
const BRANCH: u8 = 2;

/// The sum redb keeps of what it stores.
pub(super) fn sum(bytes: &[u8]) -> u128 {
    xxhash_rust::xxh3::xxh3_128(bytes)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|chunk| u16::from_le_bytes(*chunk))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|chunk| u32::from_le_bytes(*chunk))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|chunk| u64::from_le_bytes(*chunk))
}

fn u128_at(bytes: &[u8], at: usize) -> Option<u128> {
    bytes.get(at..)?.first_chunk().map(|chunk| u128::from_le_bytes(*chunk))
}

/// A page, and the sum of what it should hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Child {
    pub(super) number: u64,
    pub(super) sum: u128,
}

/// A tree of pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tree {
    pub(super) root: Child,
    pub(super) n_entries: u64,
    pub(super) widths: Widths,
}

/// The lengths of keys and values, where all have one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Widths {
    pub(super) key: Option<usize>,
    pub(super) value: Option<usize>,
}

fn tree_at(bytes: &[u8], at: usize, widths: Widths) -> Option<Tree> {
    let root = Child { number: u64_at(bytes, at)?, sum: u128_at(bytes, at + 8)? };
    Some(Tree { root, n_entries: u64_at(bytes, at + 24)?, widths })
}

/// One of the two commits a file knows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub(super) offset: u64,
    pub(super) is_whole: bool,
    pub(super) transaction: u64,
    /// The tree of tables.
    pub(super) data: Option<Tree>,
    /// The tree of redb's own tables.
    pub(super) system: Option<Tree>,
}

impl Slot {
    fn parse(bytes: &[u8], offset: usize) -> Option<Self> {
        let bytes = bytes.get(offset..offset + SLOT_BYTES)?;
        let is_whole = u128_at(bytes, SUM_AT)? == sum(&bytes[..SUM_AT]) && bytes[0] == VERSION;
        let tree = |flag: usize, at| (bytes[flag] != 0).then(|| tree_at(bytes, at, Widths::default())).flatten();
        Some(Self {
            offset: offset as u64,
            is_whole,
            transaction: u64_at(bytes, 104)?,
            data: tree(1, 8),
            system: tree(2, 40),
        })
    }
}

/// The header of a file.
#[derive(Clone, Debug)]
pub(super) struct Header {
    pub(super) is_primary_second: bool,
    /// It was not closed, or is open.
    pub(super) is_open: bool,
    /// The primary commit was synced before it was made primary.
    pub(super) is_two_phase: bool,
    region_header_pages: u32,
    region_pages: u32,
    full_regions: u32,
    last_pages: u32,
    pub(super) slots: [Slot; 2],
}

impl Header {
    /// Reads a header, or says where it is damaged and how.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, (u64, String)> {
        let short =
            || (bytes.len() as u64, format!("expected a header of `{HEADER_BYTES}` bytes, got `{}`", bytes.len()));
        if bytes.len() < HEADER_BYTES {
            return Err(short());
        }
        if !bytes.starts_with(MAGIC) {
            return Err((0, "it does not begin as a redb file does".to_owned()));
        }
        let number = |at| u32_at(bytes, at).ok_or_else(short);
        if u64::from(number(12)?) != PAGE_BYTES {
            return Err((12, format!("expected pages of `{PAGE_BYTES}` bytes, got `{}`", number(12)?)));
        }
        let (region_header_pages, region_pages) = (number(16)?, number(20)?);
        if region_pages == 0 || region_pages > MAX_REGION_PAGES || region_header_pages > MAX_REGION_PAGES {
            return Err((16, format!("there is no region of `{region_header_pages}` and `{region_pages}` pages")));
        }
        let slots = [Slot::parse(bytes, 64).ok_or_else(short)?, Slot::parse(bytes, 64 + SLOT_BYTES).ok_or_else(short)?];
        Ok(Self {
            is_primary_second: bytes[9] & 1 != 0,
            is_open: bytes[9] & 2 != 0,
            is_two_phase: bytes[9] & 4 != 0,
            region_header_pages,
            region_pages,
            full_regions: number(24)?,
            last_pages: number(28)?,
            slots,
        })
    }

    pub(super) fn primary(&self) -> &Slot {
        &self.slots[usize::from(self.is_primary_second)]
    }

    pub(super) fn secondary(&self) -> &Slot {
        &self.slots[usize::from(!self.is_primary_second)]
    }

    fn region_bytes(&self) -> u64 {
        (u64::from(self.region_header_pages) + u64::from(self.region_pages)) * PAGE_BYTES
    }

    /// How long the file should be, in bytes.
    pub(super) fn n_bytes(&self) -> u64 {
        let last =
            if self.last_pages == 0 { 0 } else { u64::from(self.region_header_pages) + u64::from(self.last_pages) };
        PAGE_BYTES + u64::from(self.full_regions) * self.region_bytes() + last * PAGE_BYTES
    }

    /// Where a page lies, in bytes; none if there is no such page.
    pub(super) fn place(&self, number: u64) -> Option<Range<u64>> {
        let order = number >> 59;
        if order > 20 {
            return None;
        }
        let index = number & (0x000f_ffff >> order);
        let region = (number >> 20) & 0x000f_ffff;
        let n_bytes = PAGE_BYTES << order;
        let within = u64::from(self.region_header_pages) * PAGE_BYTES + index * n_bytes;
        if within + n_bytes > self.region_bytes() {
            return None;
        }
        let start = PAGE_BYTES + region * self.region_bytes() + within;
        Some(start..start + n_bytes)
    }
}

/// A page as it lies on disk; nothing of it is trusted.
pub(super) enum Page<'a> {
    Leaf(Leaf<'a>),
    Branch(Branch<'a>),
}

impl<'a> Page<'a> {
    pub(super) fn parse(bytes: &'a [u8], widths: Widths) -> Option<Self> {
        let n = usize::from(u16_at(bytes, 2)?);
        match *bytes.first()? {
            LEAF if n > 0 => Some(Self::Leaf(Leaf { bytes, n, widths })),
            BRANCH if n > 0 => Some(Self::Branch(Branch { bytes, n, widths })),
            _ => None,
        }
    }

    /// The sum of what it holds.
    pub(super) fn sum(&self) -> Option<u128> {
        let (bytes, end) = match self {
            Self::Leaf(leaf) => (leaf.bytes, leaf.value_end(leaf.n - 1)?),
            Self::Branch(branch) => (branch.bytes, branch.key_end(branch.n - 1)?),
        };
        Some(sum(bytes.get(..end)?))
    }
}

/// Keys and values, sorted.
pub(super) struct Leaf<'a> {
    bytes: &'a [u8],
    n: usize,
    widths: Widths,
}

impl<'a> Leaf<'a> {
    pub(super) fn len(&self) -> usize {
        self.n
    }

    fn n_ends(&self) -> usize {
        usize::from(self.widths.key.is_none()) + usize::from(self.widths.value.is_none())
    }

    fn key_end(&self, nth: usize) -> Option<usize> {
        match self.widths.key {
            Some(width) => Some(4 + 4 * self.n_ends() * self.n + width.checked_mul(nth + 1)?),
            None => u32_at(self.bytes, 4 + 4 * nth).map(|end| end as usize),
        }
    }

    fn value_end(&self, nth: usize) -> Option<usize> {
        if let Some(width) = self.widths.value {
            return self.key_end(self.n - 1)?.checked_add(width.checked_mul(nth + 1)?);
        }
        let before = if self.widths.key.is_none() { 4 * self.n } else { 0 };
        u32_at(self.bytes, 4 + before + 4 * nth).map(|end| end as usize)
    }

    pub(super) fn key(&self, nth: usize) -> Option<&'a [u8]> {
        let start = if nth == 0 { 4 + 4 * self.n_ends() * self.n } else { self.key_end(nth - 1)? };
        self.bytes.get(start..self.key_end(nth)?)
    }

    pub(super) fn value(&self, nth: usize) -> Option<&'a [u8]> {
        let start = if nth == 0 { self.key_end(self.n - 1)? } else { self.value_end(nth - 1)? };
        self.bytes.get(start..self.value_end(nth)?)
    }
}

/// Children, and the keys between them.
pub(super) struct Branch<'a> {
    bytes: &'a [u8],
    n: usize,
    widths: Widths,
}

impl<'a> Branch<'a> {
    pub(super) fn n_children(&self) -> usize {
        self.n + 1
    }

    fn keys_at(&self) -> usize {
        8 + 24 * self.n_children()
    }

    fn key_end(&self, nth: usize) -> Option<usize> {
        match self.widths.key {
            Some(width) => self.keys_at().checked_add(width.checked_mul(nth + 1)?),
            None => u32_at(self.bytes, self.keys_at() + 4 * nth).map(|end| end as usize),
        }
    }

    /// The greatest key that may be below the `nth` child; none for the last.
    pub(super) fn key(&self, nth: usize) -> Option<&'a [u8]> {
        if nth >= self.n {
            return None;
        }
        let ends = if self.widths.key.is_none() { 4 * self.n } else { 0 };
        let start = if nth == 0 { self.keys_at() + ends } else { self.key_end(nth - 1)? };
        self.bytes.get(start..self.key_end(nth)?)
    }

    pub(super) fn child(&self, nth: usize) -> Option<Child> {
        let sum = u128_at(self.bytes, 8 + 16 * nth)?;
        Some(Child { number: u64_at(self.bytes, 8 + 16 * self.n_children() + 8 * nth)?, sum })
    }
}

/// What the definition of a table says.
pub(super) enum Table {
    Empty,
    Filled(Tree),
}

/// A table, from its definition; none if that cannot be read.
pub(super) fn table(definition: &[u8]) -> Option<Table> {
    const NORMAL: u8 = 3;
    if *definition.first()? != NORMAL {
        return None;
    }
    let width = |flag: usize| match definition.get(flag)? {
        0 => Some(None),
        _ => u32_at(definition, flag + 1).map(|width| Some(width as usize)),
    };
    let widths = Widths { key: width(42)?, value: width(47)? };
    match definition.get(9)? {
        0 => Some(Table::Empty),
        _ => tree_at(definition, 10, widths).map(Table::Filled),
    }
}
