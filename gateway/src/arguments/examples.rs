//! The examples at the end of each command's help.

use crate::exit;

pub(super) const RUN: &str = "Examples:
  quay-gateway run --config gateway.yaml
  RUST_LOG=info,access=warn quay-gateway run --config gateway.yaml --log-format json";

pub(super) const CHECK: &str = "Examples:
  quay-gateway check --config gateway.yaml
  quay-gateway check --config gateway.yaml --timeout 5s --output json";

pub(super) const CHECK_CONFIG: &str = "Examples:
  quay-gateway check-config --config gateway.yaml
  quay-gateway check-config --config gateway.yaml --output yaml";

pub(super) const CONFIG: &str = "Example:
  quay-gateway config diff --config gateway.yaml";

pub(super) const CONFIG_DIFF: &str = "Examples:
  quay-gateway config diff --config gateway.yaml
  quay-gateway config diff --config new.yaml --against gateway.yaml --output json";

pub(super) const CERTS: &str = "Example:
  quay-gateway certs ca --out ca
  quay-gateway certs issue --ca ca --out tls --san registry.cluster1.example.com";

pub(super) const ZONES: &str = "Examples:
  quay-gateway zones --config gateway.yaml
  quay-gateway zones --admin 127.0.0.1:9090 --watch
  quay-gateway zones --config gateway.yaml --output csv";

pub(super) const DRAIN: &str = "Example:
  quay-gateway zones drain zone-b --config gateway.yaml";

pub(super) const UNDRAIN: &str = "Example:
  quay-gateway zones undrain zone-b --config gateway.yaml";

pub(super) const RETIRE: &str = "Examples:
  quay-gateway zones retire zone-b --config gateway.yaml
  quay-gateway zones retire zone-b --config gateway.yaml --resume";

pub(super) const TOP: &str = "Examples:
  quay-gateway top --config gateway.yaml
  quay-gateway top --admin 127.0.0.1:9090 --interval 5s
  quay-gateway top --config gateway.yaml --once";

pub(super) const WARM: &str = "Examples:
  quay-gateway warm --config gateway.yaml org/app:v1 org/base:9 --platform linux/amd64,linux/arm64
  quay-gateway warm --config gateway.yaml --from-file images.txt --output json
  quay-gateway warm --config gateway.yaml --from-cluster --context edge";

pub(super) const CACHE: &str = "Examples:
  quay-gateway cache ls --config gateway.yaml
  quay-gateway cache export org/app:v1 --to /media/disk/images --config gateway.yaml";

pub(super) const CACHE_LS: &str = "Examples:
  quay-gateway cache ls --config gateway.yaml
  quay-gateway cache ls --pinned --config gateway.yaml --output csv > pinned.csv";

pub(super) const CACHE_VERIFY: &str = "Examples:
  quay-gateway cache verify --config gateway.yaml
  quay-gateway cache verify sha256:… --config gateway.yaml";

pub(super) const CACHE_EVICT: &str = "Examples:
  quay-gateway cache evict sha256:… --config gateway.yaml
  quay-gateway cache evict --older-than 30d --config gateway.yaml
  quay-gateway cache evict --all-unpinned --config gateway.yaml";

pub(super) const CACHE_EXPORT: &str = "Examples:
  quay-gateway cache export org/app:v1 org/base:9 --to /media/disk/images --config gateway.yaml
  quay-gateway cache export org/app:v1 --platform linux/amd64 --to images --config gateway.yaml";

pub(super) const CACHE_IMPORT: &str = "Example:
  quay-gateway cache import /media/disk/images --config gateway.yaml";

pub(super) const QUEUE_LS: &str = "Examples:
  quay-gateway queue ls --config gateway.yaml --zone zone-b --state failing
  quay-gateway queue ls --config gateway.yaml --limit 100000 --output csv > jobs.csv";

pub(super) const QUEUE_WHY: &str = "Example:
  quay-gateway queue why sha256:… --config gateway.yaml";

pub(super) const QUEUE_RETRY: &str = "Examples:
  quay-gateway queue retry --parked --zone zone-b --config gateway.yaml
  quay-gateway queue retry sha256:… --config gateway.yaml";

pub(super) const QUEUE_SWEEP: &str = "Examples:
  quay-gateway queue sweep --config gateway.yaml
  quay-gateway queue sweep --start --wait --config gateway.yaml";

pub(super) const QUEUE_PARK: &str = "Example:
  quay-gateway queue park sha256:… --zone zone-b --reason 'the store is full' --config gateway.yaml";

pub(super) const BENCH: &str = "Example:
  quay-gateway bench zones --config gateway.yaml --image org/app:v1";

pub(super) const SUPPORT_BUNDLE: &str = "Examples:
  journalctl -u quay-gateway --since -1h -o cat | quay-gateway support-bundle --config gateway.yaml --log -
  quay-gateway support-bundle --config gateway.yaml --log gateway.log --to ticket-17.tar
  kubectl exec POD -- quay-gateway support-bundle --config FILE --to - > ticket-17.tar";

pub(super) const COMPLETIONS: &str = "Examples:
  # bash, for one user
  quay-gateway completions bash > ~/.local/share/bash-completion/completions/quay-gateway
  # zsh, in a folder of $fpath
  quay-gateway completions zsh > /usr/local/share/zsh/site-functions/_quay-gateway
  # fish, for one user
  quay-gateway completions fish > ~/.config/fish/completions/quay-gateway.fish";

pub(super) const MAN: &str = "Examples:
  quay-gateway man --out /usr/local/share/man/man1
  quay-gateway man --out pages && man pages/quay-gateway-zones.1";

/// The end of the help of the program itself.
pub(super) fn program() -> String {
    format!(
        "Examples:
  quay-gateway check --config gateway.yaml
  quay-gateway run --config gateway.yaml
  quay-gateway zones --config gateway.yaml

{}",
        exit::help()
    )
}
