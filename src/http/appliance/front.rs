//! Puts the appliance's HTTP together: which routes there are, who may use them, and on what connections.

use std::sync::Arc;

use axum::Router;
use tokio::net::TcpStream;

use super::{doctor, peers, proxy, shell};
use crate::door::ServeHttp;
use crate::fleet::FleetHandle;
use crate::gateway::{self, Gateway};
use crate::http::assets::Assets;
use crate::http::ends::both_ends;
use crate::http::serve::serve_known;
use crate::http::tls::{CertificateError, HttpsAcceptor, ServerCertificate};
use crate::net::PlainRule;
use crate::peer::HeadHandle;

/// The handles that the appliance's HTTP speaks to.
pub struct Front<'a> {
    /// The clusters, for the way to their pages.
    pub fleet: &'a FleetHandle,
    /// The APIs, and who may use what.
    pub gateway: &'a Gateway,
    /// The head that other machines join; `None` without `--lan`.
    pub head: Option<&'a HeadHandle>,
    /// Runs the checks of `rask doctor`.
    pub examine: doctor::Examine,
    /// Which programs of this machine count as the same user.
    pub same_user: PlainRule,
}

impl Front<'_> {
    /// Serves connections without TLS.
    pub fn plain(&self) -> ServeHttp {
        let (router, same_user) = (self.routes(), self.same_user.clone());
        Arc::new(move |stream: TcpStream| match both_ends(&stream, &same_user, false) {
            Ok((peer, ends)) => Box::pin(serve_known(router.clone(), stream, peer, ends)),
            // The other end is gone already.
            Err(_) => Box::pin(async {}),
        })
    }

    /// Serves connections with TLS. Whoever shows a certificate of our authority is known as that machine; only here can
    /// machines join.
    ///
    /// Errors: the authority cannot issue a certificate.
    pub fn encrypted(&self, certificate: ServerCertificate) -> Result<ServeHttp, CertificateError> {
        let router = match self.head {
            Some(head) => self.routes().merge(peers::open_routes(head.clone())),
            None => self.routes(),
        };
        let acceptor = HttpsAcceptor::new(certificate)?;
        let same_user = self.same_user.clone();
        Ok(Arc::new(move |stream: TcpStream| {
            let (acceptor, router, same_user) = (acceptor.clone(), router.clone(), same_user.clone());
            Box::pin(async move {
                if let Some((stream, peer, ends)) = acceptor.accept(stream, &same_user).await {
                    serve_known(router, stream, peer, ends).await;
                }
            })
        }))
    }

    /// All routes that plain and encrypted connections share.
    fn routes(&self) -> Router {
        let pages = shell::routes(Assets::default()).merge(proxy::routes(self.fleet.clone()));
        let mut all = gateway::viewers_only(self.gateway, pages).merge(gateway::router(self.gateway));
        if let Some(head) = self.head {
            all = all.merge(gateway::for_admins(self.gateway, peers::managed_routes(head.clone())));
        }
        all = all.merge(gateway::for_admins(self.gateway, doctor::routes(Arc::clone(&self.examine))));
        gateway::guarded(self.gateway, all)
    }
}
