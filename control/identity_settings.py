"""Settings of tokens that another issuer signs."""

from dataclasses import dataclass

from control.settings import setting, url


@dataclass(frozen=True)
class IdentitySection:
    """Tokens that another issuer signs (JWT)."""

    jwks_url: str = setting(
        "DRAWBRIDGE_JWKS_URL",
        "",
        "where the issuer of JWTs publishes its keys; empty: JWTs are refused",
        url("https", "http"),
    )
    jwt_issuer: str = setting("DRAWBRIDGE_JWT_ISSUER", "", "the claim `iss` that a JWT must have")
    jwt_audience: str = setting(
        "DRAWBRIDGE_JWT_AUDIENCE", "", "the claim `aud` that a JWT must have"
    )
    jwt_role_claim: str = setting(
        "DRAWBRIDGE_JWT_ROLE_CLAIM",
        "role",
        "the claim that names viewer, operator or administrator; a JWT that names none has no role",
    )
