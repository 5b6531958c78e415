/** A pasted address: which chain it is on, and which of its functions the step calls. */
import { NativeSelect, Textarea } from '@mantine/core'
import { useQuery } from '@tanstack/react-query'
import { useState } from 'react'
import { get } from '../api/client'
import { edit, select, useDocument } from '../editor/document'
import { addNode, patchNode } from '../editor/edits'
import { FormDialog } from '../forms/FormDialog'
import { words } from '../words'
import { functionsOf } from './abi'

const said = words.paste

export function Contract({ address, close }: { address: string; close: () => void }) {
  const chains = useQuery({ queryKey: ['/v1/chains'], queryFn: () => get('/v1/chains') })
  const [chain, setChain] = useState('')
  const [abi, setAbi] = useState('')
  const [at, setAt] = useState('0')
  const functions = functionsOf(abi)
  const chosen = functions[Number(at)]
  const rows = (chains.data ?? []) as { chainId: number; name?: string }[]
  const chainId = Number(chain || rows[0]?.chainId || 1)
  const act = async () => {
    if (!chosen) throw new Error(said.noFunction)
    const after = useDocument.getState().selected[0] ?? Object.keys(useDocument.getState().flow.nodes).at(-1) ?? null
    let id = ''
    edit((flow) => {
      const added = addNode(flow, chosen.isRead ? 'read-contract' : 'write-contract', { after })
      id = added.id
      const args = chosen.inputs.length ? { args: chosen.inputs.map(() => '') } : {}
      const payload = { chainId, contract: address, function: chosen.signature, ...args }
      return patchNode(added.flow, id, { payload, titleOverride: chosen.name })
    })
    select([id])
  }
  return (
    <FormDialog title={said.contract} go={said.add} close={close} act={act}>
      <p>
        <code>{address}</code>
      </p>
      <NativeSelect
        label={said.chain}
        value={chain || String(chainId)}
        data={rows.map((one) => ({ value: String(one.chainId), label: one.name ?? String(one.chainId) }))}
        onChange={(event) => setChain(event.currentTarget.value)}
      />
      <Textarea
        label={said.abi}
        description={said.abiAbout}
        autosize
        minRows={3}
        maxRows={10}
        value={abi}
        onChange={(event) => setAbi(event.currentTarget.value)}
        error={abi.trim() && !functions.length ? said.abiWrong : undefined}
        data-autofocus
      />
      <NativeSelect
        label={said.function}
        value={at}
        disabled={!functions.length}
        data={functions.map((one, i) => ({
          value: String(i),
          label: `${one.isRead ? said.reads : said.writes}: ${one.signature}`,
        }))}
        onChange={(event) => setAt(event.currentTarget.value)}
      />
    </FormDialog>
  )
}
