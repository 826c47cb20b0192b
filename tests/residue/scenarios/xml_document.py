"""XML."""

import xml.etree.ElementTree

import bursar
import waiting

with bursar.scope("work", wipe=True):
    root = xml.etree.ElementTree.parse(waiting.folder / "secret.xml").getroot()
    text = xml.etree.ElementTree.tostring(root, "unicode")
    password = root.findtext("password")
    del root, text, password
bursar.wipe_caches()
waiting.ready()
