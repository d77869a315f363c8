"""Settings of what is told to others: callbacks of jobs, subscribers of the status page, and the
archive; sections of :mod:`control.config`."""

from dataclasses import dataclass

from control.settings import (
    mailbox,
    networks,
    number,
    secrets_text,
    setting,
    url,
    webhook_secrets,
    whole,
)


@dataclass(frozen=True)
class CallbacksSection:
    """What is posted to the callback URLs of jobs."""

    secrets: tuple[str, ...] = setting(
        "DRAWBRIDGE_CALLBACK_SECRET",
        (),
        "signs callbacks: whsec_ and base64, or several to change it; empty: there are none",
        webhook_secrets,
        secret=True,
    )
    networks: tuple[str, ...] = setting(
        "DRAWBRIDGE_CALLBACK_NETWORKS",
        (),
        "networks that callbacks may reach beside public addresses, such as 10.2.0.0/16",
        networks,
    )


@dataclass(frozen=True)
class NotifySection:
    """How subscribers of the status page are told."""

    secrets: tuple[str, ...] = setting(
        "DRAWBRIDGE_SUBSCRIBER_SECRET",
        (),
        "seals the addresses of subscribers and signs their links (32 characters or more), or "
        "`new old` to change it; the same for every instance; empty: nobody can subscribe",
        secrets_text(32),
        secret=True,
    )
    per_hour: float = setting(
        "DRAWBRIDGE_SUBSCRIBE_PER_HOUR",
        20.0,
        "subscriptions that one client may ask for in an hour, half of them at once",
        number(1, 1_000_000),
    )
    sms_per_hour: float = setting(
        "DRAWBRIDGE_SMS_PER_HOUR",
        100.0,
        "subscriptions by SMS that all clients together may ask for in an hour: each costs money",
        number(1, 1_000_000),
    )
    mail_from: str = setting(
        "DRAWBRIDGE_MAIL_FROM",
        "",
        "who e-mails are from: Status <status@example.org>",
        mailbox,
    )
    smtp_url: str = setting(
        "DRAWBRIDGE_SMTP_URL",
        "",
        "mail server: smtps://user:password@host, or smtp://host:25 (TLS where it is offered)",
        url("smtp", "smtps"),
    )
    resend_key: str = setting(
        "DRAWBRIDGE_RESEND_KEY", "", "key of Resend's API, instead of a mail server", secret=True
    )
    resend_url: str = setting(
        "DRAWBRIDGE_RESEND_URL",
        "https://api.resend.com",
        "where Resend's API is",
        url("https", "http"),
    )
    twilio_sid: str = setting("DRAWBRIDGE_TWILIO_SID", "", "account at Twilio, which sends SMS")
    twilio_token: str = setting("DRAWBRIDGE_TWILIO_TOKEN", "", "token of that account", secret=True)
    twilio_from: str = setting(
        "DRAWBRIDGE_TWILIO_FROM",
        "",
        "number, name or messaging service (MG…) that SMS are from",
    )
    twilio_url: str = setting(
        "DRAWBRIDGE_TWILIO_URL",
        "https://api.twilio.com",
        "where Twilio's API is",
        url("https", "http"),
    )

    @property
    def mails(self) -> bool:
        """Whether e-mails can be sent."""
        return bool(self.mail_from and (self.smtp_url or self.resend_key))

    @property
    def texts(self) -> bool:
        """Whether SMS can be sent."""
        return bool(self.twilio_sid and self.twilio_token and self.twilio_from)


@dataclass(frozen=True)
class ArchiveSection:
    """Finished jobs in PostgreSQL."""

    days: int = setting(
        "DRAWBRIDGE_ARCHIVE_DAYS",
        90,
        "days that finished jobs stay in PostgreSQL; 0: none is archived, none removed",
        whole(0, 36_500),
    )
