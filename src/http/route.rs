//! A route is declared once. The router, the permission check, the rate class, the OpenAPI document and the test that
//! walks all routes read the same declaration.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;

use http::Method;
use schemars::SchemaGenerator;

use super::extract::{Extract, Input};
use super::openapi::Operation;
use super::respond::{Answer, Failure, Reply};
use crate::domain::Services;
use crate::domain::authz::Permission;
use crate::domain::op::{Op, Principal, lacking};
use crate::error::Error;
use crate::model::device::Status;

/// Who may call a route. What a principal may see of the resource behind it, the domain decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anyone, also before the appliance is set up.
    Open,
    /// Anyone, once the appliance is set up.
    Public,
    /// Whoever is signed in as a user, also one who must set up a second factor before anything else: what that takes.
    OwnAccount,
    /// Whoever is signed in as a user.
    SignedIn,
    /// Holders of the permission.
    Needs(Permission),
    /// Holders of the permission; users for what is theirs; with `device`, the device for itself.
    NeedsOrOwn { permission: Permission, device: bool },
    /// Devices, for themselves.
    Device,
}

impl Access {
    pub const fn needs(permission: Permission) -> Self {
        Self::Needs(permission)
    }

    pub const fn needs_or_own(permission: Permission) -> Self {
        Self::NeedsOrOwn { permission, device: false }
    }

    pub const fn needs_or_own_or_device(permission: Permission) -> Self {
        Self::NeedsOrOwn { permission, device: true }
    }

    pub const fn is_public(self) -> bool {
        matches!(self, Self::Open | Self::Public)
    }

    pub fn check(self, principal: &Principal) -> Result<(), Error> {
        let holds = |permission| principal.permissions().contains(permission);
        match (self, principal) {
            (Self::Open | Self::Public, _) => Ok(()),
            (_, Principal::Anonymous) => Err(Error::Unauthenticated("a bearer token is required".into())),
            (Self::OwnAccount, Principal::User(_)) => Ok(()),
            (_, principal) if principal.must_enroll_mfa() => Err(Error::Forbidden(
                "your organization requires a second factor: set one up first, with POST /api/v1/auth/mfa/totp".into(),
            )),
            // A suspended or wiped device gets no further than what `Device` routes let it.
            (Self::NeedsOrOwn { device: true, .. }, Principal::Device(device))
                if matches!(device.status, Status::Suspended | Status::Wiped) =>
            {
                Err(Error::Forbidden(format!("this device is {}", device.status)))
            }
            (Self::SignedIn, Principal::User(_)) | (Self::Device, Principal::Device(_)) => Ok(()),
            (Self::NeedsOrOwn { .. }, Principal::User(_)) => Ok(()),
            (Self::NeedsOrOwn { device: true, .. }, Principal::Device(_)) => Ok(()),
            (Self::Needs(permission) | Self::NeedsOrOwn { permission, .. }, _) if holds(permission) => Ok(()),
            (Self::Needs(permission) | Self::NeedsOrOwn { permission, .. }, _) => Err(lacking(permission)),
            (Self::OwnAccount | Self::SignedIn, _) => Err(Error::Forbidden("this is for signed-in users".into())),
            (Self::Device, _) => Err(Error::Forbidden("this is for the device itself".into())),
        }
    }
}

/// How requests to a route are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateClass {
    /// Against the address while nobody is signed in, against the principal otherwise.
    Standard,
}

pub struct Route {
    pub method: Method,
    /// Below `/api/v1`, with `{name}` for parameters.
    pub path: &'static str,
    pub access: Access,
    pub rate: RateClass,
    pub endpoint: Box<dyn Endpoint>,
}

impl Route {
    fn new<A, R, H>(method: Method, path: &'static str, access: Access, rate: RateClass, handler: H) -> Self
    where
        A: Arguments + 'static,
        R: Answer + 'static,
        H: for<'a> Handler<'a, A, Answer = R> + 'static,
    {
        let endpoint = Box::new(Handled { handler, prepared: A::prepare(), types: PhantomData });
        Self { method, path, access, rate, endpoint }
    }
}

macro_rules! route_methods {
    ($($name:ident $method:ident),+) => {
        impl Route {$(
            pub fn $name<A, R, H>(path: &'static str, access: Access, rate: RateClass, handler: H) -> Self
            where
                A: Arguments + 'static,
                R: Answer + 'static,
                H: for<'a> Handler<'a, A, Answer = R> + 'static,
            {
                Self::new(Method::$method, path, access, rate, handler)
            }
        )+}
    };
}

route_methods!(get GET, post POST, put PUT, patch PATCH, delete DELETE);

/// An `async fn(&Services, Op, ...)` whose further parameters are taken from the request.
pub trait Handler<'a, A>: Send + Sync {
    type Answer: Answer;
    type Future: Future<Output = Result<Self::Answer, Error>> + Send + 'a;

    fn run(&self, services: &'a Services, op: Op, arguments: A) -> Self::Future;
}

/// A handler's further parameters together.
pub trait Arguments: Sized + Send {
    type Prepared: Send + Sync + 'static;
    const BODY: bool;
    const UPLOAD: u64;

    fn prepare() -> Self::Prepared;
    fn extract(prepared: &Self::Prepared, input: &Input) -> Result<Self, Failure>;
    fn describe(operation: &mut Operation, generator: &mut SchemaGenerator);
}

macro_rules! arities {
    ($(($($argument:ident $place:tt),*)),+ $(,)?) => {$(
        impl<'a, Function, Fut, R, $($argument),*> Handler<'a, ($($argument,)*)> for Function
        where
            Function: Fn(&'a Services, Op, $($argument),*) -> Fut + Send + Sync,
            Fut: Future<Output = Result<R, Error>> + Send + 'a,
            R: Answer,
        {
            type Answer = R;
            type Future = Fut;

            fn run(&self, services: &'a Services, op: Op, arguments: ($($argument,)*)) -> Fut {
                self(services, op, $(arguments.$place),*)
            }
        }

        impl<$($argument: Extract),*> Arguments for ($($argument,)*) {
            type Prepared = ($($argument::Prepared,)*);
            const BODY: bool = false $(|| $argument::BODY)*;
            const UPLOAD: u64 = 0 $(+ $argument::UPLOAD)*;

            fn prepare() -> Self::Prepared {
                ($($argument::prepare(),)*)
            }

            fn extract(prepared: &Self::Prepared, input: &Input) -> Result<Self, Failure> {
                Ok(($($argument::extract(&prepared.$place, input)?,)*))
            }

            fn describe(operation: &mut Operation, generator: &mut SchemaGenerator) {
                $($argument::describe(operation, generator);)*
            }
        }
    )+};
}

arities!((A 0), (A 0, B 1), (A 0, B 1, C 2), (A 0, B 1, C 2, D 3));

impl<'a, Function, Fut, R> Handler<'a, ()> for Function
where
    Function: Fn(&'a Services, Op) -> Fut + Send + Sync,
    Fut: Future<Output = Result<R, Error>> + Send + 'a,
    R: Answer,
{
    type Answer = R;
    type Future = Fut;

    fn run(&self, services: &'a Services, op: Op, (): ()) -> Fut {
        self(services, op)
    }
}

impl Arguments for () {
    type Prepared = ();
    const BODY: bool = false;
    const UPLOAD: u64 = 0;

    fn prepare() {}

    fn extract((): &(), _: &Input) -> Result<Self, Failure> {
        Ok(())
    }

    fn describe(_: &mut Operation, _: &mut SchemaGenerator) {}
}

/// A handler behind its route, with its types out of sight.
pub trait Endpoint: Send + Sync {
    fn reads_body(&self) -> bool;
    /// Bytes of the file that it takes, at most; 0 for none.
    fn takes_upload(&self) -> u64;
    fn describe(&self, operation: &mut Operation, generator: &mut SchemaGenerator);
    fn call<'a>(&'a self, services: &'a Services, op: Op, input: Input<'a>) -> Answering<'a>;
}

pub type Answering<'a> = Pin<Box<dyn Future<Output = Result<Reply, Failure>> + Send + 'a>>;

struct Handled<A: Arguments, R, H> {
    handler: H,
    prepared: A::Prepared,
    types: PhantomData<fn(A) -> R>,
}

impl<A, R, H> Endpoint for Handled<A, R, H>
where
    A: Arguments,
    R: Answer,
    H: for<'a> Handler<'a, A, Answer = R>,
{
    fn reads_body(&self) -> bool {
        A::BODY
    }

    fn takes_upload(&self) -> u64 {
        A::UPLOAD
    }

    fn describe(&self, operation: &mut Operation, generator: &mut SchemaGenerator) {
        A::describe(operation, generator);
        R::describe(operation, generator);
    }

    fn call<'a>(&'a self, services: &'a Services, op: Op, input: Input<'a>) -> Answering<'a> {
        Box::pin(async move {
            let arguments = A::extract(&self.prepared, &input)?;
            let answer = self.handler.run(services, op, arguments).await?;
            Ok(answer.into_reply())
        })
    }
}
