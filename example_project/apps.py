"""The example as a Django app, so that its templates and static files are found."""

from django.apps import AppConfig


class ExampleConfig(AppConfig):
    name = "example_project"
    label = "example"
    verbose_name = "Tidewater Works"

    def ready(self) -> None:
        from example_project.receivers import remember_step_up
        from stepup.signals import elevated

        elevated.connect(remember_step_up, dispatch_uid="example_project.remember_step_up")
