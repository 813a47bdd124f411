//! Measures the ranking of zones, which runs for every cache miss and for every change of zone within a blob.

use std::hint::black_box;
use std::sync::Arc;

use backends::memory::MemoryStore;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use zone_router::rank::Standing;
use zone_router::{PerZone, Router, SizeClass, Zone, ZoneId};

fn ranking(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ranking");
    for zones in [3, 8] {
        let named = (0..zones).map(|zone| Zone::new(&format!("zone-{zone}"), Arc::new(MemoryStore::new())));
        let router = Router::new(named.collect());
        let clear = PerZone::filled(zones, Standing::Clear);
        let mut mixed = clear.clone();
        mixed[ZoneId::HOME] = Standing::Suspect;
        mixed[ZoneId::at(1)] = Standing::Quarantined;
        for (name, standings) in [("all clear", clear), ("one suspected, one quarantined", mixed)] {
            group.bench_with_input(BenchmarkId::new(name, zones), &standings, |bencher, standings| {
                bencher.iter(|| router.snapshot().rank(SizeClass::Medium, |zone| black_box(standings)[zone]));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, ranking);
criterion_main!(benches);
