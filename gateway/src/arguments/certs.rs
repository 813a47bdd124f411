//! The arguments of `certs`.

use std::path::PathBuf;

use certificates::{KeyType, SubjectName};
use clap::{ArgGroup, Args, Subcommand};
use operations::certs::{CA_DAYS_MAX, DAYS_MAX, TrustedHost};

use super::Output;

/// `certs`.
#[derive(Debug, Args)]
pub(crate) struct CertsArguments {
    #[command(subcommand)]
    pub(crate) command: CertsCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CertsCommand {
    /// Make a CA that signs the certificates of the gateways. Clients need to trust only the CA.
    ///
    /// Writes ca.crt and ca.key (mode 0600) into a folder. An existing file is never overwritten. The key is EC P-256.
    /// Whoever has ca.key can impersonate any host to the clients that trust the CA: keep it offline, and out of every
    /// cluster.
    #[command(after_help = "Example:\n  quay-gateway certs ca --out ca")]
    Ca(CaArguments),
    /// Issue one certificate for all gateways. Name every host that clients dial, in every cluster: routes, services
    /// and addresses.
    ///
    /// Writes tls.crt (the certificate, then the CA) and tls.key (mode 0600) into a folder. An existing file is never
    /// overwritten. EC P-256 is right unless a client cannot use it; RSA is for old ones.
    #[command(
        after_help = "Examples:\n  quay-gateway certs issue --ca ca --out tls --san registry.cluster1.example.com \\\n      \
                            --san registry.cluster2.example.com --san 10.0.0.7\n  quay-gateway certs issue --ca ca --out \
                            tls-rsa --config gateway.yaml \\\n      --san '*.apps.example.com' --key-type rsa-3072"
    )]
    Issue(IssueArguments),
    /// Print a Secret of Kubernetes with a certificate and its key, ready for every cluster.
    ///
    /// Its type is kubernetes.io/tls, and it has the keys that cert-manager writes: tls.crt (the whole chain), tls.key and, if the CA is known, ca.crt. A
    /// CA's certificate or key is refused. The output holds the private key: pipe it to where it belongs.
    #[command(
        after_help = "Example:\n  quay-gateway certs secret --certificate tls/tls.crt --key tls/tls.key \\\n      --name \
                            gateway-tls --namespace quay > gateway-tls.yaml\n  for cluster in cluster1 cluster2; do \
                            kubectl --context $cluster apply -f gateway-tls.yaml; done"
    )]
    Secret(SecretArguments),
    /// Show what certificates say, until when they are valid, whether the key fits, and whether the chain leads to a
    /// root.
    ///
    /// The exit status is 0 only if nothing is wrong. A certificate that expires soon is only a warning.
    #[command(
        after_help = "Examples:\n  quay-gateway certs show tls/tls.crt\n  quay-gateway certs show --config \
                            gateway.yaml\n  quay-gateway certs show --connect registry.cluster1.example.com:8443 --ca \
                            ca/ca.crt"
    )]
    Show(ShowArguments),
    /// Print what each client needs to trust the gateway: podman, skopeo, CRI-O, docker, containerd, OpenShift, and the
    /// stores of Debian and RHEL.
    #[command(
        after_help = "Examples:\n  quay-gateway certs trust --ca ca/ca.crt --host registry.cluster1.example.com:8443 \
                            \\\n      --host registry.cluster2.example.com:8443\n  quay-gateway certs trust --config gateway.yaml"
    )]
    Trust(TrustArguments),
}

#[derive(Debug, Args)]
pub(crate) struct CaArguments {
    /// The folder for ca.crt and ca.key. It is made, with mode 0700, if it is missing.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) out: PathBuf,
    /// The name that clients show for the CA.
    #[arg(long, value_name = "NAME", default_value = "quay-gateway CA")]
    pub(crate) name: String,
    /// For how many days the CA is valid. Every client must be told again when it ends.
    #[arg(long, value_name = "N", default_value_t = 3650, value_parser = clap::value_parser!(u32).range(1..=i64::from(CA_DAYS_MAX)))]
    pub(crate) days: u32,
}

#[derive(Debug, Args)]
pub(crate) struct IssueArguments {
    /// The folder of the CA: ca.crt and ca.key, as `certs ca` writes them. The gateway's own state_dir works too.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) ca: PathBuf,
    /// The folder for tls.crt and tls.key. It is made, with mode 0700, if it is missing.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) out: PathBuf,
    /// A host name, a wildcard such as *.apps.example.com, or an address. May be repeated, or separated by commas; 100
    /// at most.
    #[arg(long = "san", value_name = "HOST", value_delimiter = ',', required_unless_present = "config")]
    pub(crate) sans: Vec<SubjectName>,
    /// A configuration file of a gateway, whose hostname and more_hostnames come first.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The type of the private key.
    #[arg(long, value_enum, default_value_t = KeyTypeArgument::EcP256)]
    pub(crate) key_type: KeyTypeArgument,
    /// For how many days the certificate is valid. Some clients refuse more than 825.
    #[arg(long, value_name = "N", default_value_t = 397, value_parser = clap::value_parser!(u32).range(1..=i64::from(DAYS_MAX)))]
    pub(crate) days: u32,
}

/// The type of a private key.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(crate) enum KeyTypeArgument {
    /// EC P-256: small and fast.
    #[value(name = "ec-p256")]
    EcP256,
    /// RSA with 2048 bits, for old clients.
    #[value(name = "rsa-2048")]
    Rsa2048,
    /// RSA with 3072 bits, for old clients.
    #[value(name = "rsa-3072")]
    Rsa3072,
}

impl From<KeyTypeArgument> for KeyType {
    fn from(given: KeyTypeArgument) -> Self {
        match given {
            KeyTypeArgument::EcP256 => Self::EcP256,
            KeyTypeArgument::Rsa2048 => Self::Rsa2048,
            KeyTypeArgument::Rsa3072 => Self::Rsa3072,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct SecretArguments {
    /// The certificate and its chain in PEM, leaf first.
    #[arg(long, value_name = "FILE")]
    pub(crate) certificate: PathBuf,
    /// The private key in PEM.
    #[arg(long, value_name = "FILE")]
    pub(crate) key: PathBuf,
    /// The CA's certificate for ca.crt, if the chain does not end with it.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// The name of the Secret.
    #[arg(long, value_name = "NAME")]
    pub(crate) name: String,
    /// The namespace of the Secret. Without it, the Secret goes where it is applied.
    #[arg(long, value_name = "NAMESPACE")]
    pub(crate) namespace: Option<String>,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("source").required(true).args(["file", "config", "connect"]))]
pub(crate) struct ShowArguments {
    /// A file of certificates in PEM, leaf first.
    #[arg(value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// The private key of FILE. By default, the file beside it with the ending .key, if there is one.
    #[arg(long, value_name = "FILE", requires = "file")]
    pub(crate) key: Option<PathBuf>,
    /// The CA's certificate. By default, ca.crt beside FILE, if there is one. The system's roots are tried too.
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
    pub(crate) ca: Option<PathBuf>,
    /// A configuration file: show every certificate that its gateway serves.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// A server: show the certificates that it sends. If it cannot be verified, the handshake ends there.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) connect: Option<String>,
    /// The host name to ask that server for, instead of HOST.
    #[arg(long, value_name = "HOST", requires = "connect")]
    pub(crate) server_name: Option<String>,
    /// The format of the result.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("authority").required(true).args(["ca", "config"]))]
pub(crate) struct TrustArguments {
    /// The CA's certificate, or a chain that ends with it.
    #[arg(long, value_name = "FILE", requires = "hosts")]
    pub(crate) ca: Option<PathBuf>,
    /// A host that clients dial, with its port unless that is 443. May be repeated, or separated by commas; 100 at most.
    #[arg(long = "host", value_name = "HOST", value_delimiter = ',')]
    pub(crate) hosts: Vec<TrustedHost>,
    /// A configuration file of a gateway: for its CA and its hostname.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}
