//! Selects the blobs to read. Pure.

use backends::Digest;
use zone_router::SizeClass;

use registry::LocalBlob;

/// The most blobs of one size class. They are read in turn.
pub(super) const BLOBS_PER_CLASS_MAX: usize = 8;

/// A blob that was selected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChosenBlob {
    /// The repository in which it is read at the registry.
    pub repository: String,
    /// The digest.
    pub digest: Digest,
    /// The size in bytes according to the manifest, if it has one.
    pub size: Option<u64>,
    /// The class of that size.
    pub class: SizeClass,
}

/// The blobs to read.
#[derive(Debug, Default)]
pub(super) struct ReadPlan {
    /// The blobs of each size class that has any, smallest class first.
    pub(super) classes: Vec<(SizeClass, Vec<ChosenBlob>)>,
    /// The number of blobs that were left out.
    pub(super) left_out: usize,
}

impl ReadPlan {
    /// Selects from the blobs of images, each given with its repository. Each digest is taken once, and the images
    /// take turns.
    pub(super) fn of(images: &[(String, Vec<LocalBlob>)]) -> Self {
        let mut plan = Self::default();
        let mut seen = std::collections::HashSet::new();
        let longest = images.iter().map(|(_, blobs)| blobs.len()).max().unwrap_or_default();
        let turns = (0..longest)
            .flat_map(|at| images.iter().filter_map(move |(name, blobs)| Some((name, blobs.get(at)?))));
        let mut all: Vec<ChosenBlob> = Vec::new();
        for (repository, blob) in turns {
            // The empty blob has nothing to measure, and some registries do not store it.
            if blob.digest != Digest::EMPTY && seen.insert(blob.digest) {
                let (digest, size) = (blob.digest, blob.size);
                all.push(ChosenBlob {
                    repository: repository.clone(),
                    digest,
                    size,
                    class: SizeClass::of(size),
                });
            }
        }
        for class in SizeClass::ALL {
            let mut chosen: Vec<_> = all.iter().filter(|blob| blob.class == class).cloned().collect();
            plan.left_out += chosen.len().saturating_sub(BLOBS_PER_CLASS_MAX);
            chosen.truncate(BLOBS_PER_CLASS_MAX);
            if !chosen.is_empty() {
                plan.classes.push((class, chosen));
            }
        }
        plan
    }

    /// The size classes without a blob.
    pub(super) fn missing(&self) -> Vec<SizeClass> {
        let has = |class: &SizeClass| self.classes.iter().any(|(other, _)| other == class);
        SizeClass::ALL.into_iter().filter(|class| !has(class)).collect()
    }

    /// All blobs to read.
    pub(super) fn blobs(&self) -> Vec<ChosenBlob> {
        self.classes.iter().flat_map(|(_, blobs)| blobs).cloned().collect()
    }
}

/// The sizes of a class as text.
pub(super) fn sizes(class: SizeClass) -> &'static str {
    match class {
        SizeClass::Small => "up to 256 KiB",
        SizeClass::Medium => "up to 16 MiB",
        SizeClass::Large => "over 16 MiB",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(text: &str, size: Option<u64>) -> LocalBlob {
        LocalBlob { digest: Digest::of(text.as_bytes()), size }
    }

    #[test]
    fn by_class_each_once_and_images_in_turn() {
        let many = (0..20).map(|n| blob(&format!("one {n}"), Some(10))).chain([blob("", Some(0))]).collect();
        let other = vec![blob("one 0", Some(10)), blob("two", Some(20)), blob("big", Some(100 << 20))];
        let plan = ReadPlan::of(&[("a".into(), many), ("b".into(), other)]);
        let [(SizeClass::Small, small), (SizeClass::Large, large)] = &plan.classes[..] else {
            panic!("{:?}", plan.classes)
        };
        assert_eq!((small.len(), large.len(), plan.left_out), (BLOBS_PER_CLASS_MAX, 1, 13));
        assert!(small.iter().any(|blob| blob.repository == "b" && blob.size == Some(20)));
        assert_eq!(plan.missing(), [SizeClass::Medium]);
        assert_eq!(plan.blobs().len(), BLOBS_PER_CLASS_MAX + 1);
        assert_eq!(ReadPlan::of(&[]).missing(), SizeClass::ALL);
    }

    #[test]
    fn words_for_sizes_are_true() {
        for (class, most) in [(SizeClass::Small, 256 << 10), (SizeClass::Medium, 16 << 20)] {
            assert_eq!(SizeClass::of(Some(most)), class);
            assert_ne!(SizeClass::of(Some(most + 1)), class);
            assert_eq!(
                sizes(class),
                format!("up to {}", bytesize::ByteSize::b(most).display().iec()).replace(".0", "")
            );
        }
    }
}
