//! Size classes: blobs of similar size, whose times can be compared.

use std::ops::{Index, IndexMut};

/// Blobs of about one size, whose times can be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SizeClass {
    /// Up to 256 KiB: configs of images, small layers. The time to the first byte decides how long they take.
    Small,
    /// Up to 16 MiB, or of unknown size.
    Medium,
    /// Larger blobs. The throughput decides how long they take.
    Large,
}

/// The largest small blob. A body of at least this many bytes is a sample of the zone's throughput.
pub(crate) const SMALL_MAX: u64 = 256 << 10;

/// The largest medium blob.
const MEDIUM_MAX: u64 = 16 << 20;

impl SizeClass {
    /// All classes, the smallest first.
    pub const ALL: [Self; 3] = [Self::Small, Self::Medium, Self::Large];

    /// The class of a blob of `size` bytes, or of a blob whose size is not known.
    #[must_use]
    pub fn of(size: Option<u64>) -> Self {
        match size {
            Some(size) if size <= SMALL_MAX => Self::Small,
            Some(size) if size > MEDIUM_MAX => Self::Large,
            _ => Self::Medium,
        }
    }

    /// A typical size, in bytes, for estimates of time.
    #[must_use]
    pub fn typical(self) -> u64 {
        match self {
            Self::Small => 16 << 10,
            Self::Medium => 4 << 20,
            Self::Large => 64 << 20,
        }
    }

    /// The name of the class, for tables and labels.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Medium => "medium",
            Self::Large => "large",
        }
    }
}

/// One item for each [`SizeClass`], which indexes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PerClass<T>([T; SizeClass::ALL.len()]);

impl<T> PerClass<T> {
    /// Calls `item` for each class.
    pub fn from_fn(item: impl FnMut(SizeClass) -> T) -> Self {
        Self(SizeClass::ALL.map(item))
    }

    /// Each class and its item, smallest class first.
    pub fn with_classes(&self) -> impl Iterator<Item = (SizeClass, &T)> {
        SizeClass::ALL.into_iter().zip(&self.0)
    }
}

impl<T> Index<SizeClass> for PerClass<T> {
    type Output = T;

    fn index(&self, class: SizeClass) -> &T {
        &self.0[class as usize]
    }
}

impl<T> IndexMut<SizeClass> for PerClass<T> {
    fn index_mut(&mut self, class: SizeClass) -> &mut T {
        &mut self.0[class as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_size() {
        let classes =
            [Some(0), Some(SMALL_MAX), Some(SMALL_MAX + 1), Some(MEDIUM_MAX), None, Some(MEDIUM_MAX + 1)];
        use SizeClass::{Large, Medium, Small};
        assert_eq!(classes.map(SizeClass::of), [Small, Small, Medium, Medium, Medium, Large]);
        let mut classes = PerClass::from_fn(|class| SizeClass::of(Some(class.typical())));
        assert!(classes.with_classes().all(|(class, found)| class == *found));
        classes[Large] = Small;
        assert_eq!(classes, PerClass([Small, Medium, Small]));
    }
}
