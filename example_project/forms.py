"""What employees fill in."""

from __future__ import annotations

from django import forms


class ClaimForm(forms.Form):
    """Money that somebody has laid out for the company."""

    what = forms.CharField(label="What was it for?", max_length=80)
    amount = forms.DecimalField(label="Amount, in euros", min_value=1, max_value=500, decimal_places=2, localize=True)
    receipt = forms.FileField(label="Receipt", required=False)
