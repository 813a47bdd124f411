//! What skopeo, podman and containerd do at an endpoint, and the expected results.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use real_servers::{AccessTable, Account, Containerd, Login, Podman, Shape, Skopeo};
use tempfile::TempDir;

/// The permissions: `pusher` may do everything in `team/`, `puller` may pull there, everybody may pull
/// `public/`.
pub(crate) fn access() -> AccessTable {
    AccessTable {
        accounts: vec![
            Account {
                user: "pusher",
                password: "push-secret",
                grants: &[("team/", &["pull", "push"]), ("public/", &["pull", "push"])],
            },
            Account { user: "puller", password: "pull-secret", grants: &[("team/", &["pull"])] },
        ],
        public: vec!["public/"],
    }
}

fn pusher() -> Login {
    Login::new("pusher", "push-secret")
}

pub(crate) fn puller() -> Login {
    Login::new("puller", "pull-secret")
}

/// The endpoint, the trust and the images of the clients.
pub(crate) struct Scenario {
    /// `host:port`.
    pub(crate) endpoint: String,
    /// A folder with `ca.crt`.
    pub(crate) trusted: PathBuf,
    /// The images that are pushed and pulled.
    pub(crate) shapes: Vec<Shape>,
}

impl Scenario {
    fn reference(&self, repository: &str) -> String {
        format!("{}/{repository}:1", self.endpoint)
    }

    fn skopeo(&self, login: Option<Login>) -> Skopeo {
        Skopeo { trusted: self.trusted.clone(), login }
    }

    pub(crate) async fn push_all(&self) -> Result<()> {
        let skopeo = self.skopeo(Some(pusher()));
        for shape in &self.shapes {
            skopeo
                .push(&shape.image.path, &self.reference(&format!("team/{}", shape.name)))
                .await
                .context(shape.name)?;
        }
        skopeo.push(&self.shape("multi").image.path, &self.reference("public/multi")).await
    }

    fn shape(&self, name: &str) -> &Shape {
        self.shapes.iter().find(|shape| shape.name == name).expect("a shape of that name")
    }

    /// Checks that the registry's refusals are kept.
    pub(crate) async fn refusals(&self) -> Result<()> {
        let to = TempDir::new()?;
        let private = self.reference("team/multi");
        let stranger = Login::new("puller", "wrong");
        refused("an anonymous pull", self.skopeo(None).pull(&private, to.path()).await)?;
        refused("a wrong password", self.skopeo(Some(stranger)).pull(&private, to.path()).await)?;
        let base = &self.shape("base").image.path;
        refused(
            "a reader's push",
            self.skopeo(Some(puller())).push(base, &self.reference("team/base")).await,
        )?;
        let public = self.reference("public/multi");
        let to = TempDir::new()?;
        self.skopeo(None).pull(&public, to.path()).await?;
        self.shape("multi").image.same_as(to.path())
    }

    /// All three clients pull at once with empty storages. Every byte is compared.
    pub(crate) async fn pull_all(&self) -> Result<()> {
        tokio::try_join!(self.pull_by_skopeo(), self.pull_by_podman(), self.pull_by_containerd()).map(drop)
    }

    async fn pull_by_skopeo(&self) -> Result<()> {
        let skopeo = self.skopeo(Some(puller()));
        for shape in &self.shapes {
            let to = TempDir::new()?;
            skopeo
                .pull(&self.reference(&format!("team/{}", shape.name)), to.path())
                .await
                .context(shape.name)?;
            shape.image.same_as(to.path()).context(shape.name)?;
        }
        Ok(())
    }

    /// podman unpacks the layers and computes the digests of the unpacked layers itself.
    async fn pull_by_podman(&self) -> Result<()> {
        let podman = Podman::new(self.trusted.clone(), puller())?;
        for shape in self.shapes.iter().filter(|shape| shape.image.runnable) {
            let pulled =
                podman.pull(&self.reference(&format!("team/{}", shape.name))).await.context(shape.name)?;
            ensure!(
                format!("sha256:{}", pulled.id) == shape.image.config,
                "{}: config {}",
                shape.name,
                pulled.id
            );
            ensure!(
                pulled.root.layers == shape.image.diff_ids,
                "{}: layers {:?}",
                shape.name,
                pulled.root.layers
            );
        }
        Ok(())
    }

    async fn pull_by_containerd(&self) -> Result<()> {
        let containerd = Containerd::start(&self.endpoint, &self.trusted, puller()).await?;
        for shape in self.shapes.iter().filter(|shape| !shape.image.has_empty_blob()) {
            containerd
                .pull(&shape.image, &self.reference(&format!("team/{}", shape.name)))
                .await
                .context(shape.name)?;
            containerd.holds(&shape.image).context(shape.name)?;
        }
        Ok(())
    }

    /// The other two clients push as well: containerd the unchanged image, podman with layers that it packed
    /// again.
    pub(crate) async fn push_by_others(&self) -> Result<()> {
        let containerd = Containerd::start(&self.endpoint, &self.trusted, pusher()).await?;
        for name in ["multi", "forty"] {
            let shape = self.shape(name);
            let (from, to) =
                (self.reference(&format!("team/{name}")), self.reference(&format!("team/{name}-containerd")));
            containerd.pull(&shape.image, &from).await?;
            containerd.push(&from, &to).await?;
            self.pull_back(&to, &shape.image.path).await?;
        }
        let podman = Podman::new(self.trusted.clone(), pusher())?;
        let (from, to) = (self.reference("team/derived"), self.reference("team/derived-podman"));
        let before = podman.pull(&from).await?;
        podman.push(&from, &to).await?;
        let after = Podman::new(self.trusted.clone(), puller())?.pull(&to).await?;
        ensure!(before.root.layers == after.root.layers, "podman pulled different layers than it pushed");
        Ok(())
    }

    async fn pull_back(&self, reference: &str, original: &Path) -> Result<()> {
        let to = TempDir::new()?;
        self.skopeo(Some(puller())).pull(reference, to.path()).await?;
        let shape = self.shapes.iter().find(|shape| shape.image.path == original).context("a known shape")?;
        shape.image.same_as(to.path())
    }
}

/// Checks that the client failed because the registry refused.
fn refused(what: &str, result: Result<()>) -> Result<()> {
    let Err(error) = result else { bail!("{what} went through") };
    let text = format!("{error:#}").to_lowercase();
    ensure!(text.contains("unauthorized") || text.contains("denied"), "{what} failed otherwise: {text}");
    Ok(())
}
