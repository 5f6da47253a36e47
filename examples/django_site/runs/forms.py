"""The form that starts a run."""

from typing import Any, Dict, List, Set

from django import forms
from django.conf import settings
from django.template.defaultfilters import filesizeformat

from .models import Run

MAX_PROMPT = 100_000


class FilesInput(forms.ClearableFileInput):
    allow_multiple_selected = True


class FilesField(forms.FileField):
    """Any number of files."""

    def clean(self, data: Any, initial: Any = None) -> List[Any]:
        given = data if isinstance(data, (list, tuple)) else [data]
        single = super().clean
        return [single(each, initial) for each in given if each]


class StartForm(forms.Form):
    kind = forms.ChoiceField(
        label="What to do", choices=Run.Kind.choices, initial=Run.Kind.QUERY, widget=forms.RadioSelect
    )
    prompt = forms.CharField(
        label="Prompt or commands",
        help_text="Commands go one to a line, and run one after the other until one fails.",
        max_length=MAX_PROMPT,
        widget=forms.Textarea(attrs={"rows": 6, "spellcheck": "false", "autocapitalize": "off"}),
    )
    files = FilesField(
        label="Files to send along",
        required=False,
        widget=FilesInput(attrs={"multiple": True}),
        help_text="They are in $INPUT_DIR. What is written into $OUTPUT_DIR can be downloaded.",
    )
    goes_on_alone = forms.BooleanField(
        label="Go on when nobody is watching",
        required=False,
        help_text="Otherwise the run is cancelled soon after its page was closed everywhere.",
    )

    def clean_prompt(self) -> str:
        prompt: str = self.cleaned_data["prompt"].replace("\r\n", "\n")
        if "\x00" in prompt:
            raise forms.ValidationError("Null characters are not allowed.")
        return prompt

    def clean_files(self) -> List[Any]:
        files: List[Any] = self.cleaned_data["files"]
        seen: Set[str] = set()
        for file in files:
            # Django has left only the last part of its path, and what can be printed of that.
            if file.name in seen:
                raise forms.ValidationError(f"There are two files with the name “{file.name}”.")
            seen.add(file.name)
        limit = settings.RUNS["MAX_INPUT"]
        if sum(file.size for file in files) > limit:
            raise forms.ValidationError(
                f"The files are too large: {filesizeformat(limit)} is the most for all of them."
            )
        return files

    def described_files(self) -> List[Dict[str, Any]]:
        return [{"name": file.name, "size": file.size} for file in self.cleaned_data["files"]]
