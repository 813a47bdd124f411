//! What decides who may read: the remembered permissions, the links, and the registry's tokens.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use config::{Settings, TokenKeys, TokenSettings};
use registry::bearer::{Form, KeySet, KeySource, KeyedHash, Rules, TokenVerifier};

use offline::Remembered;

use crate::Gateway;
use crate::offline::Offline;
use crate::permissions::{Memories, Permissions};

/// The verifier of the registry's tokens, and where its keys come from. Both are absent if no tokens are verified.
#[derive(Debug, Clone, Default)]
pub(super) struct Tokens {
    pub(super) verifier: Option<Arc<TokenVerifier>>,
    /// Absent if the keys are in a file.
    pub(super) keys: Option<Arc<KeySource>>,
}

/// The permissions and tokens of the first configuration, with the links and the keys of the last run. It reads files, so
/// it may block.
///
/// # Errors
/// The system gives no random bytes, or the file of keys cannot be used.
pub(super) fn first(settings: &Settings) -> anyhow::Result<(Permissions, Tokens)> {
    let mut permissions = Permissions::new(memories(settings), KeyedHash::new()?);
    let tokens = tokens(settings, permissions.hash().clone())?;
    // Even if no tokens are verified: removals of this run must not be forgotten by the next one.
    permissions.open_links(&settings.state_dir, &registry_name(settings));
    Ok((permissions, tokens))
}

/// The permissions of a later configuration. Others begin if their bounds have changed, or the registry that gave them.
/// Links end only with their registry.
pub(super) fn next_permissions(running: &Gateway, settings: &Settings) -> Arc<Permissions> {
    let same_registry = is_same_registry(&running.settings, settings);
    if same_registry && memories(settings) == memories(&running.settings) {
        return Arc::clone(&running.permissions);
    }
    Arc::new(running.permissions.successor(memories(settings), same_registry))
}

/// The tokens of a later configuration. If nothing about them has changed, they stay, with their keys. It reads files,
/// so it may block.
///
/// # Errors
/// The file of keys cannot be used.
pub(super) fn next_tokens(running: &Gateway, settings: &Settings) -> anyhow::Result<Tokens> {
    let before = &running.settings;
    if settings.auth.tokens == before.auth.tokens && is_same_registry(before, settings) {
        return Ok(Tokens { verifier: running.tokens.clone(), keys: running.token_keys.clone() });
    }
    tokens(settings, running.permissions.hash().clone())
}

/// What is remembered for the time while the registry is away.
///
/// # Errors
/// Its files in `state_dir` cannot be used.
pub(super) async fn offline(settings: &Settings) -> anyhow::Result<Option<Arc<Offline>>> {
    let Some(offline) = settings.offline else { return Ok(None) };
    if offline.tokens && settings.auth.tokens.is_none() {
        tracing::warn!(
            "offline.tokens has no effect: without auth.verify_tokens, Quay's tokens are not read"
        );
    }
    let (state_dir, host) = (settings.state_dir.clone(), settings.registry_hostname.clone());
    let registry = format!("{:?} {host}", settings.registry_kind);
    let open = move || Remembered::open(&state_dir, &registry, &host, offline);
    let remembered = tokio::task::spawn_blocking(open).await?;
    Ok(Some(Arc::new(Offline::new(remembered.context("what is remembered for offline use")?))))
}

/// What is remembered, for a later configuration. It is of one registry, and requests under way may still learn from that
/// one.
pub(super) fn next_offline(running: &Gateway, settings: &Settings) -> Option<Arc<Offline>> {
    let same = running.settings.registry_hostname == settings.registry_hostname;
    if !same && running.offline.is_some() {
        tracing::warn!(
            "the registry has another name: nothing is served while it is away before the gateway is restarted"
        );
    }
    running.offline.clone().filter(|_| same)
}

/// What tells this registry from every other.
fn registry_name(settings: &Settings) -> String {
    let urls = settings.instances.iter().map(|instance| instance.url.as_str());
    std::iter::once(settings.registry_hostname.as_str()).chain(urls).collect::<Vec<_>>().join(" ")
}

fn is_same_registry(before: &Settings, after: &Settings) -> bool {
    before.instances == after.instances && before.registry_hostname == after.registry_hostname
}

fn memories(settings: &Settings) -> Memories {
    let timeouts = &settings.timeouts;
    Memories {
        entries: settings.limits.permissions,
        permission: timeouts.permission,
        freshness: settings.auth.freshness,
        answer: timeouts.registry_first_pull,
    }
}

fn tokens(settings: &Settings, hash: KeyedHash) -> anyhow::Result<Tokens> {
    let Some(TokenSettings { issuer, audience, keys }) = settings.auth.tokens.clone() else {
        return Ok(Tokens::default());
    };
    let life_max = match keys {
        TokenKeys::OfQuay { life_max } => life_max,
        TokenKeys::InFile { file, .. } => {
            let rules = Rules { form: Form::Distribution, issuer, audience, life_max: Duration::MAX };
            let place = || format!("registry.token_keys: {}", file.display());
            let keys = KeySet::parse_file(&std::fs::read(&file).with_context(place)?).with_context(place)?;
            let verifier = TokenVerifier::with_keys(rules, hash, keys);
            return Ok(Tokens { verifier: Some(Arc::new(verifier)), keys: None });
        }
    };
    let registry = format!("{issuer} {}", registry_name(settings));
    let keys = KeySource::new(&issuer, registry, &settings.state_dir);
    let verifier = TokenVerifier::new(Rules { form: Form::Quay, issuer, audience, life_max }, hash);
    keys.load(&verifier);
    Ok(Tokens { verifier: Some(Arc::new(verifier)), keys: Some(Arc::new(keys)) })
}

/// Keeps the keys of a gateway's tokens up to date, for ever.
pub(super) async fn follow_keys(gateway: Arc<Gateway>) {
    if let (Some(tokens), Some(keys)) = (&gateway.tokens, &gateway.token_keys) {
        keys.run(tokens, &gateway.client).await;
    }
}
