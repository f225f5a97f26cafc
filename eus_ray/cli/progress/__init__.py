"""Progress, as a person sees it while work goes on."""
