"""What a run would spend: dust plans, fund needs, spend forecasts, the rehearsal guard."""
