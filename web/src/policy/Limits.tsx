/** The limits of a policy, one line each. */
import { ActionIcon, Button, Select, TextInput } from '@mantine/core'
import { IconPlus, IconTrash } from '@tabler/icons-react'
import { policyWords as said } from '../words.policy'
import type { LimitField } from './fields'

const NEW: LimitField = {
  kind: 'maxUsd',
  most: '',
  asset: '',
  windowMs: '86400000',
  scope: { of: null, per: null },
}

export function Limits({ limits, set }: { limits: LimitField[]; set: (limits: LimitField[]) => void }) {
  const change = (at: number, part: Partial<LimitField>) =>
    set(limits.map((one, i) => (i === at ? { ...one, ...part } : one)))
  const windows = (now: string) =>
    Object.entries({ ...(now in said.windows ? {} : { [now]: said.say.window(Number(now)) }), ...said.windows }).map(
      ([value, label]) => ({ value: value || 'once', label }),
    )
  return (
    <fieldset className="limits">
      <legend>{said.limits.label}</legend>
      {!limits.length && <p className="quiet">{said.limits.none}</p>}
      {limits.map((limit, i) => (
        <div className="limit" key={i}>
          <TextInput
            aria-label={said.most}
            placeholder={said.most}
            inputMode="decimal"
            value={limit.most}
            onChange={(event) => change(i, { most: event.currentTarget.value })}
          />
          <Select
            aria-label={said.limitKind}
            allowDeselect={false}
            data={Object.entries(said.limitKinds).map(([value, label]) => ({ value, label }))}
            value={limit.kind}
            onChange={(kind) => change(i, { kind: kind ?? 'maxUsd' })}
          />
          <Select
            aria-label={said.window}
            allowDeselect={false}
            data={windows(limit.windowMs)}
            value={limit.windowMs || 'once'}
            onChange={(value) => change(i, { windowMs: value === 'once' || !value ? '' : value })}
          />
          <ActionIcon
            variant="subtle"
            color="gray"
            size={36}
            aria-label={said.limits.remove}
            onClick={() => set(limits.filter((_, at) => at !== i))}
          >
            <IconTrash size={16} />
          </ActionIcon>
          {(limit.scope.of || limit.scope.per) && <p className="assetof quiet">{said.limits.part(limit.scope.per)}</p>}
          {limit.kind === 'maxUnits' && (
            <TextInput
              className="assetof"
              aria-label={said.asset}
              placeholder="eip155:1/native"
              value={limit.asset}
              onChange={(event) => change(i, { asset: event.currentTarget.value })}
            />
          )}
        </div>
      ))}
      <Button variant="default" size="xs" leftSection={<IconPlus size={14} />} onClick={() => set([...limits, NEW])}>
        {said.limits.add}
      </Button>
    </fieldset>
  )
}
