"""A mail message, parsed and made."""

import email
import email.message
import email.policy

import bursar
import waiting

with bursar.scope("work", wipe=True):
    text = (waiting.folder / "secret.txt").read_text().strip()
    message = email.message.EmailMessage()
    message["Subject"] = "your password"
    message["X-Token"] = text
    message.set_content(f"It is {text}.\n")
    again = email.message_from_bytes(message.as_bytes(), policy=email.policy.default)
    body = again.get_content()
    del text, message, again, body
bursar.wipe_caches()
waiting.ready()
