"""What a worker needs to tell subscribers, put together as the configuration says."""

from contextlib import aclosing
from typing import TYPE_CHECKING

from control import keys
from control.clock import Clock
from control.config import Config
from control.delivery_settings import NotifySection
from control.lifespan import Lifespan
from control.stores.postgres import Database
from control.subscriber import Listener, Subscriber
from control.subscribers.channel import Channel
from control.subscribers.links import Links
from control.subscribers.outbox import Outbox
from control.subscribers.roster import Roster
from control.subscribers.tokens import Tokens
from control.subscribers.vault import Vault
from control.webhooks.sender import Sender
from worker.jobs.manager import JobStateManager
from worker.notify.caretaker import Caretaker
from worker.notify.courier import Courier
from worker.notify.delivery import Carrier
from worker.notify.hooks import Webhooks
from worker.notify.letters import Letters
from worker.notify.relay import Relay
from worker.notify.twilio import TwilioSms

if TYPE_CHECKING:
    from worker.notify.mail import SmtpMail
    from worker.notify.resend import ResendMail


async def courier(
    life: Lifespan, config: Config, database: Database, sender: Sender, clock: Clock
) -> Courier:
    """What makes attempts; its clients are owned by ``life``. ``sender`` posts to webhooks."""
    letters = Letters(config.status_page.title)
    carriers: dict[str, Carrier] = {Channel.WEBHOOK: Webhooks(sender, letters)}
    if config.notify.mails:
        carriers[Channel.EMAIL] = await life.enter(aclosing(_mail(config.notify, letters, clock)))
    if config.notify.texts:
        carriers[Channel.SMS] = await life.enter(aclosing(TwilioSms(config.notify, letters, clock)))
    vault = Vault(config.notify.secrets)
    links = Links(config.status_page.url, Tokens(vault, clock))
    return Courier(Outbox(database, clock), vault, links, carriers, clock)


async def relay(
    config: Config,
    database: Database,
    courier: Courier,
    *,
    jobs: JobStateManager,
    subscriber: Subscriber,
    clock: Clock,
) -> Relay:
    """What brings deliveries to couriers, as soon as somebody rings on ``subscriber``."""
    ready = bool(config.notify.secrets)
    made = Relay(Outbox(database, clock), courier, jobs, active=ready)
    await subscriber.add(keys.OUTBOX_CHANNEL, Listener(made.ring), wait_s=0)
    return made


def caretaker(config: Config, database: Database, clock: Clock) -> Caretaker:
    """What forgets."""
    vault = Vault(config.notify.secrets)
    return Caretaker(
        Outbox(database, clock), Roster(database, vault, clock), active=vault.ready,
        keep_days=config.archive.days,
    )  # fmt: skip


def _mail(section: NotifySection, letters: Letters, clock: Clock) -> "SmtpMail | ResendMail":
    """By the mail server where there is one, else by Resend."""
    from worker.notify.mail import SmtpMail  # noqa: PLC0415 - SMTP takes memory where it is used
    from worker.notify.resend import ResendMail  # noqa: PLC0415

    if section.smtp_url:
        return SmtpMail(section.smtp_url, section.mail_from, letters)
    return ResendMail(section, letters, clock)
