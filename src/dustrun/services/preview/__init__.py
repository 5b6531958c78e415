"""Previews of a run's spends: dust plans, fund needs, spend forecasts, the rehearsal guard."""
