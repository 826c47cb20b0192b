"""Decimals and fractions."""

import decimal
import fractions

import bursar
import waiting

with bursar.scope("work", wipe=True):
    number = decimal.Decimal((waiting.folder / "int.txt").read_text().strip())
    ratio = fractions.Fraction(int(number), 7)
    texts = [str(number), str(number.quantize(decimal.Decimal(1), context=decimal.Context(200))), str(ratio)]
    del number, ratio, texts
waiting.ready()
